// What lies in a folder of audio, in the order of names; hidden files are left out.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace stemfabric {

inline constexpr const char* kAudioExtensions = "wav, flac, ogg, mp3, aif, aiff, w64, opus";

struct FolderListing {
  std::vector<std::filesystem::path> folders;
  std::vector<std::filesystem::path> audio_files;  // by extension
};
// InputError if there are absurdly many entries (a million); IoError if it cannot be read.
FolderListing list_folder(const std::filesystem::path& folder);

// " (a, b, c, …)" or "": the first names, for messages.
std::string first_names(const std::vector<std::filesystem::path>& paths);

// A name that comes from a file or table must be UTF-8 without control characters, 1 to 200 bytes;
// else an InputError that names `where`.
void require_plain_name(const std::string& name, const std::filesystem::path& where);

// The longest beginning of at most so many bytes that cuts no character of UTF-8.
std::string utf8_prefix(const std::string& text, std::size_t bytes);

}  // namespace stemfabric
