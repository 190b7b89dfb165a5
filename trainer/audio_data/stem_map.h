// How the sources of a data set make the six stems: `data.stem_map` (docs/audio_data.md).
//
//   entry  = "absent" | "residual" | term { ("+" | "-") term }
//   term   = source | "lowpass(" source "," hertz ")"
//   source = letters, digits, "_", "." and "-" in one piece, or anything in double quotes
// A "+" or "-" stands between spaces. absent: the data set does not tell this stem (it is masked).
// residual: the mixture without the other stems.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "trainer/audio_data/track_layout.h"
#include "trainer/config/config.h"
#include "trainer/stems.h"

namespace stemfabric {

struct StemTerm {
  std::string source;
  double sign = 1.0;
  double lowpass_hz = 0.0;  // 0: the source as it is
};

struct StemRecipe {
  enum class Kind : uint8_t { kAbsent, kSum, kResidual };
  Kind kind = Kind::kAbsent;
  std::vector<StemTerm> terms;  // of kSum: at least one
};

struct StemMap {
  std::string preset;  // the one in effect: "demo", "musdb18", "moisesdb" or "none"
  std::array<StemRecipe, kStemCount> stems;
  bool silent_if_missing = false;  // data.stem_map.missing

  // One entry in the form above.
  std::string entry(std::size_t stem) const;
  // The whole map in one form, for the manifest and for cache keys.
  std::string text() const;
};

// The map for what was found. ConfigErrors name the key; a source that no track has gets a "did you
// mean" (of presets, sources that are not there are left out).
StemMap make_stem_map(const StemMapConfig& config, const AudioRoot& root, int64_t sample_rate);

// One entry; ConfigError that names `key`.
StemRecipe parse_stem_recipe(const std::string& text, const std::string& key);

}  // namespace stemfabric
