#include "runtime/io/self_hash.h"

#include <algorithm>

#include "runtime/core/check.h"
#include "runtime/io/file.h"

namespace stemfabric {
namespace {

constexpr std::size_t kDigits = 64;
constexpr std::string_view kBlanks = " \t\r\n";

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Where the digits begin; npos if there is no such entry, or `broken` if its value is no hash.
std::size_t find_digits(std::string_view text, bool& broken) {
  const std::string key = '"' + std::string(kSelfHashKey) + '"';
  broken = false;
  const std::size_t at = text.rfind(key);
  if (at == std::string_view::npos) {
    return at;
  }
  broken = true;
  const auto skip = [&](std::size_t from, char expected) {
    const std::size_t here = text.find_first_not_of(kBlanks, from);
    return here != std::string_view::npos && text[here] == expected ? here + 1
                                                                    : std::string_view::npos;
  };
  const std::size_t colon = skip(at + key.size(), ':');
  const std::size_t begin = colon == std::string_view::npos ? colon : skip(colon, '"');
  if (begin == std::string_view::npos || begin + kDigits >= text.size() ||
      text[begin + kDigits] != '"') {
    return std::string_view::npos;
  }
  const std::string_view digits = text.substr(begin, kDigits);
  broken = !std::ranges::all_of(digits, [](char c) {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'f');
  });
  return broken ? std::string_view::npos : begin;
}

std::string hash_without(std::string text, std::size_t digits) {
  std::fill_n(text.begin() + static_cast<std::ptrdiff_t>(digits), kDigits, '0');
  return sha256_hex(text);
}

}  // namespace

std::string self_hash_placeholder() { return std::string(kDigits, '0'); }

std::string seal_text(std::string text) {
  bool broken = false;
  const std::size_t digits = find_digits(text, broken);
  SF_CHECK(digits != std::string::npos, "a text without a place for its hash");
  return text.replace(digits, kDigits, hash_without(text, digits));
}

bool same_hash(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, lower, lower);
}

Seal check_seal(std::string_view text) {
  bool broken = false;
  const std::size_t digits = find_digits(text, broken);
  if (digits == std::string_view::npos) {
    return broken ? Seal::kWrong : Seal::kNone;
  }
  const bool right =
      same_hash(hash_without(std::string(text), digits), text.substr(digits, kDigits));
  return right ? Seal::kRight : Seal::kWrong;
}

void refuse_wrong_seal(std::string_view text, const std::filesystem::path& file) {
  if (check_seal(text) == Seal::kWrong) {
    throw InputError(
        "{}: was changed or damaged: it does not have the SHA-256 that it states as `{}`; make it "
        "again (or, if the change was meant, remove that entry)",
        file.string(), kSelfHashKey);
  }
}

}  // namespace stemfabric
