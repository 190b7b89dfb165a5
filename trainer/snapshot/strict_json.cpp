#include "trainer/snapshot/strict_json-inl.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

namespace stemfabric::strict_json {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }

std::string_view trim_end(std::string_view token) {
  const std::size_t last = token.find_last_not_of(" \t\r\n");
  return token.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

void append_utf8(std::string& out, uint32_t code) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

// Four hex digits at `at`, or -1.
int64_t hex4(std::string_view text, std::size_t at) {
  uint32_t code = 0;
  if (at + 4 > text.size()) {
    return -1;
  }
  const char* end = text.data() + at + 4;
  const auto [stop, error] = std::from_chars(text.data() + at, end, code, 16);
  return error == std::errc() && stop == end ? static_cast<int64_t>(code) : -1;
}

std::string_view json_reason(simdjson::error_code error) {
  switch (error) {
    case simdjson::EMPTY:
      return "there is nothing in it";
    case simdjson::UNCLOSED_STRING:
      return "a string is not closed";
    case simdjson::UNESCAPED_CHARS:
      return "a control character inside a string";
    case simdjson::STRING_ERROR:
      return "bad escape in a string";
    case simdjson::UTF8_ERROR:
      return "not UTF-8";
    case simdjson::NUMBER_ERROR:
      return "a malformed number";
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR:
      return "a value is neither string, number, true, false nor null";
    case simdjson::INCOMPLETE_ARRAY_OR_OBJECT:
      return "it ends inside an object or a list: truncated?";
    case simdjson::DEPTH_ERROR:
      return "nested too deeply, or brackets that do not match";
    case simdjson::CAPACITY:
      return "too large";
    case simdjson::TRAILING_CONTENT:
      return "more text after the object";
    default:
      return "commas, colons, quotes or brackets that are missing, too many or misplaced";
  }
}

}  // namespace

void refuse_json(std::string_view where, simdjson::error_code error) {
  if (error == simdjson::MEMALLOC) {
    throw std::bad_alloc();
  }
  throw Refusal("{}: not valid JSON ({})", where, json_reason(error));
}

std::string_view decode_string(std::string_view token, std::string& storage,
                               std::string_view where) {
  if (token.size() < 2 || token.front() != '"' || token.back() != '"') {
    throw Refusal("{}: not valid JSON (a string is not closed)", where);
  }
  const std::string_view text = token.substr(1, token.size() - 2);
  if (std::memchr(text.data(), '\\', text.size()) == nullptr) {
    return text;
  }
  storage.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      storage.push_back(text[i]);
      continue;
    }
    constexpr std::string_view kEscapes = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const char escape = ++i < text.size() ? text[i] : '\0';
    if (const std::size_t known = kEscapes.find(escape); known != std::string_view::npos) {
      storage.push_back(kMeanings[known]);
      continue;
    }
    int64_t code = escape == 'u' ? hex4(text, i + 1) : -1;
    if (code < 0) {
      throw Refusal("{}: not valid JSON (bad escape in a string)", where);
    }
    i += 4;
    if (code >= 0xD800 && code < 0xDC00 && text.substr(i + 1, 2) == "\\u") {
      const int64_t low = hex4(text, i + 3);
      if (low >= 0xDC00 && low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        i += 6;
      }
    }
    append_utf8(storage, static_cast<uint32_t>(code));
  }
  return storage;
}

std::string_view scalar_token(od::value& value) { return trim_end(value.raw_json_token()); }

bool is_number_token(std::string_view token) {
  std::size_t i = 0;
  const auto at = [&](std::size_t k) { return k < token.size() ? token[k] : '\0'; };
  const auto digits = [&] {
    const std::size_t begin = i;
    while (digit(at(i))) {
      ++i;
    }
    return i > begin;
  };
  i += at(0) == '-' ? 1 : 0;
  if (at(i) == '0') {
    ++i;
  } else if (!digits()) {
    return false;
  }
  if (at(i) == '.') {
    ++i;
    if (!digits()) {
      return false;
    }
  }
  if (at(i) == 'e' || at(i) == 'E') {
    ++i;
    i += at(i) == '+' || at(i) == '-' ? 1 : 0;
    if (!digits()) {
      return false;
    }
  }
  return i == token.size();
}

std::string_view KeyStack::decode(const char* after_quote, std::string_view where) {
  const char* end = after_quote;
  while (*end != '"' && *end != '\\') {
    ++end;
  }
  if (*end == '"') {
    return {after_quote, static_cast<std::size_t>(end - after_quote)};
  }
  while (*end != '"') {  // simdjson has made sure that the string is closed
    end += *end == '\\' ? 2 : 1;
  }
  const std::string_view token(after_quote - 1, static_cast<std::size_t>(end - after_quote) + 2);
  std::string& storage = decoded_.emplace_back();
  return decode_string(token, storage, where);
}

void KeyStack::refuse_duplicate(std::string_view where) {
  throw Refusal("{}: two fields of one object have the same name", where);
}

void KeyStack::check_sorted(std::size_t base, std::string_view where) {
  const auto begin = keys_.begin() + static_cast<std::ptrdiff_t>(base);
  std::sort(begin, keys_.end());
  if (std::adjacent_find(begin, keys_.end()) != keys_.end()) {
    refuse_duplicate(where);
  }
}

void validate(od::value value, KeyStack& keys, std::string_view where, int depth, int limit) {
  switch (take(value.type(), where)) {
    case od::json_type::object:
      require_depth(depth + 1, where, limit);
      visit_object(take(value.get_object(), where), keys, where,
                   [&](std::string_view, od::value field) {
                     validate(field, keys, where, depth + 1, limit);
                   });
      return;
    case od::json_type::array:
      require_depth(depth + 1, where, limit);
      for (auto element : take(value.get_array(), where)) {
        validate(take(std::move(element), where), keys, where, depth + 1, limit);
      }
      return;
    default:
      break;
  }
  const std::string_view token = scalar_token(value);
  if (token.starts_with('"')) {
    std::string storage;
    string(value, storage, where);
  } else if (token != "true" && token != "false" && token != "null" && !is_number_token(token)) {
    throw Refusal("{}: not valid JSON (a value is neither string, number, true, false nor null)",
                  where);
  }
}

double number(od::value& value, std::string_view where) {
  double result = 0.0;
  if (value.get_double().get(result) == simdjson::SUCCESS) {
    return result;
  }
  const std::string_view token = scalar_token(value);
  if (!is_number_token(token)) {
    throw Refusal("{} must be a number", where);
  }
  result = std::strtod(std::string(token).c_str(), nullptr);  // rare: exponents of 20 digits
  if (!std::isfinite(result)) {
    throw Refusal("{} is too large a number", where);
  }
  return result;
}

bool is_null(od::value& value, std::string_view where) {
  return take(value.type(), where) == od::json_type::null && scalar_token(value) == "null";
}

od::object object(od::value& value, std::string_view where) {
  if (take(value.type(), where) != od::json_type::object) {
    throw Refusal("{} must be an object", where);
  }
  return take(value.get_object(), where);
}

od::array array(od::value& value, std::string_view where) {
  if (take(value.type(), where) != od::json_type::array) {
    throw Refusal("{} must be an array", where);
  }
  return take(value.get_array(), where);
}

std::string_view string(od::value& value, std::string& storage, std::string_view where) {
  if (take(value.type(), where) != od::json_type::string) {
    throw Refusal("{} must be a string", where);
  }
  const std::string_view token = scalar_token(value);
  // Consumed here: simdjson takes a string that is left to it for a key if a colon follows.
  take(value.get_raw_json_string(), where);
  return decode_string(token, storage, where);
}

int64_t floats(od::value value, const std::string& where, int64_t limit, std::vector<float>& out) {
  constexpr double kOverflow = 0x1.ffffffp127;  // from here on float32 rounds to infinity
  out.clear();
  int64_t nulls = 0;
  for (auto result : array(value, where)) {
    od::value element = take(std::move(result), where);
    if (static_cast<int64_t>(out.size()) == limit) {
      throw Refusal("{} holds more than {} values", where, limit);
    }
    double wide = 0.0;
    if (element.get_double().get(wide) != simdjson::SUCCESS) {
      if (is_null(element, where)) {
        ++nulls;
      } else {
        wide = number(element, fmt::format("{}[{}]", where, out.size()));
      }
    }
    if (!(std::abs(wide) < kOverflow)) {
      throw Refusal("{}[{}] is too large for float32", where, out.size());
    }
    out.push_back(static_cast<float>(wide));
  }
  return nulls;
}

void require_end(od::document& document) {
  if (document.current_location().error() != simdjson::OUT_OF_BOUNDS) {
    throw Refusal("not valid JSON (more text after the object)");
  }
}

}  // namespace stemfabric::strict_json
