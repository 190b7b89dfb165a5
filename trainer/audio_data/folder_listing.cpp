#include "trainer/audio_data/folder_listing.h"

#include <simdjson.h>

#include <algorithm>
#include <cctype>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxEntries = 1'000'000;

bool has_audio_extension(const fs::path& file) {
  std::string extension = file.extension().string();
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static constexpr std::string_view kKnown = " .wav .flac .ogg .mp3 .aif .aiff .w64 .opus ";
  return !extension.empty() && kKnown.find(" " + extension + " ") != std::string_view::npos;
}

}  // namespace

FolderListing list_folder(const fs::path& folder) {
  FolderListing listing;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with('.')) {
      continue;
    }
    std::error_code vanished;  // since it was listed, or a link to nowhere
    if (it->is_directory(vanished)) {
      listing.folders.push_back(it->path());
    } else if (it->is_regular_file(vanished) && has_audio_extension(it->path())) {
      listing.audio_files.push_back(it->path());
    }
    if (listing.folders.size() + listing.audio_files.size() > kMaxEntries) {
      throw InputError("{}: holds more than {} files and folders", folder.string(), kMaxEntries);
    }
  }
  if (error) {
    throw IoError("cannot read folder {}: {}", folder.string(), error.message());
  }
  std::ranges::sort(listing.folders);
  std::ranges::sort(listing.audio_files);
  return listing;
}

std::string first_names(const std::vector<fs::path>& paths) {
  constexpr std::size_t kShown = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(paths.size(), kShown); ++i) {
    text += (i == 0 ? "" : ", ") + paths[i].filename().string().substr(0, 40);
  }
  return paths.empty() ? "" : " (" + text + (paths.size() > kShown ? ", …)" : ")");
}

void require_plain_name(const std::string& name, const fs::path& where) {
  const bool printable =
      std::ranges::none_of(name, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (name.empty() || name.size() > 200 || !printable || !simdjson::validate_utf8(name)) {
    std::string shown;
    for (const char c : name.substr(0, 40)) {
      shown += c >= ' ' && c <= '~' ? c : '?';
    }
    throw InputError(
        "{}: the name '{}' of a track or source is no text in UTF-8 of 1 to 200 bytes; rename it",
        where.string(), shown);
  }
}

std::string utf8_prefix(const std::string& text, std::size_t bytes) {
  std::size_t end = std::min(bytes, text.size());
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    --end;  // a byte that goes on with a character
  }
  return text.substr(0, end);
}

}  // namespace stemfabric
