// The six stems, always in this order. The only list of them in the project.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace stemfabric {

inline constexpr int kStemCount = 6;
inline constexpr std::array<std::string_view, kStemCount> kStemNames = {"vocals",   "drums", "bass",
                                                                        "harmonic", "perc",  "sub"};

constexpr std::optional<int> stem_index(std::string_view name) {
  for (int i = 0; i < kStemCount; ++i) {
    if (kStemNames[static_cast<std::size_t>(i)] == name) {
      return i;
    }
  }
  return std::nullopt;
}

}  // namespace stemfabric
