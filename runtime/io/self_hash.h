// A hash of a text file inside the text itself: the entry
//   "contentsSha256": "<64 hex digits, of either case>"
// holds the SHA-256 of the whole text with these 64 digits written as zeros. So every changed byte
// is noticed, and anyone can check or make one with any SHA-256 tool.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace stemfabric {

inline constexpr const char* kSelfHashKey = "contentsSha256";

// What the entry holds before seal_text().
std::string self_hash_placeholder();
// The text with its last entry of that name filled in.
std::string seal_text(std::string text);

// Whether two hashes in hex digits, of either case, are the same.
bool same_hash(std::string_view a, std::string_view b);

enum class Seal : uint8_t { kNone, kRight, kWrong };
Seal check_seal(std::string_view text);
// InputError that names the file if the text has such an entry and it is wrong.
void refuse_wrong_seal(std::string_view text, const std::filesystem::path& file);

}  // namespace stemfabric
