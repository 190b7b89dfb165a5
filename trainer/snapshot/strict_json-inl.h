// Strict reading with simdjson's on-demand parser, which by itself looks only at what it is asked
// for: here every value is visited, so that bad grammar anywhere, duplicate keys and deep nesting
// are found, and refusals name the field. Internal to trainer/snapshot: it includes simdjson.
#pragma once

#include <simdjson.h>

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/check.h"

namespace stemfabric::strict_json {

namespace od = simdjson::ondemand;

// Why a document is refused. Never holds text of the document.
class Refusal {
 public:
  explicit Refusal(std::string reason) : reason_(std::move(reason)) {}
  template <typename... Args>
  explicit Refusal(fmt::format_string<Args...> format, Args&&... args) requires(sizeof...(Args) > 0)
      : reason_(fmt::format(format, std::forward<Args>(args)...)) {}
  const std::string& reason() const { return reason_; }

 private:
  std::string reason_;
};

[[noreturn]] void refuse_json(std::string_view where, simdjson::error_code error);

template <typename T>
T take(simdjson::simdjson_result<T> result, std::string_view where) {
  T value;
  if (const auto error = std::move(result).get(value); error != simdjson::SUCCESS) {
    refuse_json(where, error);
  }
  return value;
}

// The decoded text of a string token (with its quotes). `storage` is used if there are escapes.
// Unpaired surrogates, which the grammar allows, become their three-byte form.
std::string_view decode_string(std::string_view token, std::string& storage,
                               std::string_view where);
// The token of a scalar, without white space after it.
std::string_view scalar_token(od::value& value);
bool is_number_token(std::string_view token);  // the grammar's `number`

// The keys of the objects that are open, to find duplicates.
class KeyStack {
 public:
  std::size_t open() const { return keys_.size(); }
  // Adds a key of the object opened at `base`.
  void add(std::size_t base, std::string_view key, std::string_view where) {
    if (keys_.size() - base < kCompared) {
      for (std::size_t i = base; i < keys_.size(); ++i) {
        if (keys_[i] == key) {
          refuse_duplicate(where);
        }
      }
    }
    keys_.push_back(key);
  }
  void close(std::size_t base, std::string_view where) {
    if (keys_.size() - base > kCompared) {
      check_sorted(base, where);
    }
    keys_.resize(base);
  }
  // The key as text that lives until clear().
  std::string_view decode(const char* after_quote, std::string_view where);
  void clear() {
    keys_.clear();
    decoded_.clear();
  }

 private:
  static constexpr std::size_t kCompared = 16;  // larger objects are sorted when they close
  [[noreturn]] static void refuse_duplicate(std::string_view where);
  void check_sorted(std::size_t base, std::string_view where);
  std::vector<std::string_view> keys_;
  std::deque<std::string> decoded_;
};

inline void require_depth(int depth, std::string_view where, int limit) {
  if (depth > limit) {
    throw Refusal("{}: nested deeper than {} levels", where, limit);
  }
}

// Calls handle(key, value) for each field. `depth` is the object's own level (the root is 1).
template <typename Handle>
void visit_object(od::object object, KeyStack& keys, std::string_view where, Handle&& handle) {
  const std::size_t base = keys.open();
  for (auto result : object) {
    od::field field = take(std::move(result), where);
    const std::string_view key = keys.decode(field.key().raw(), where);
    keys.add(base, key, where);
    handle(key, field.value());
  }
  keys.close(base, where);
}

// Visits a value that is to be dropped, to the last token. `depth` is the level of its parent.
void validate(od::value value, KeyStack& keys, std::string_view where, int depth, int limit);

// A finite double; anything else is refused.
double number(od::value& value, std::string_view where);
bool is_null(od::value& value, std::string_view where);

// The value as an object, array or string, or a refusal "<where> must be an object".
od::object object(od::value& value, std::string_view where);
od::array array(od::value& value, std::string_view where);
std::string_view string(od::value& value, std::string& storage, std::string_view where);

// An array of at most `limit` numbers that are finite as float32, into `out`. A null counts as 0;
// returns how many there were.
int64_t floats(od::value value, const std::string& where, int64_t limit, std::vector<float>& out);

template <std::size_t N>
std::optional<int> index_of(const std::array<std::string_view, N>& names, std::string_view name) {
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == name) {
      return static_cast<int>(i);
    }
  }
  return std::nullopt;
}

// The required fields of one object, ticked off as they come.
template <std::size_t N>
class Required {
 public:
  explicit Required(const std::array<std::string_view, N>& names) : names_(names) {}
  void saw(std::size_t index) { seen_[index] = true; }
  void check(std::string_view parent) const {
    for (std::size_t i = 0; i < N; ++i) {
      if (!seen_[i]) {
        throw Refusal("{}{}{} is missing", parent, parent.empty() ? "" : ".", names_[i]);
      }
    }
  }

 private:
  const std::array<std::string_view, N>& names_;
  std::array<bool, N> seen_{};
};

// After the root object was visited.
void require_end(od::document& document);

}  // namespace stemfabric::strict_json
