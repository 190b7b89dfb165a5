// Where the values of a snapshot's feature arrays lie in time: docs/snapshots.md.
// The exporter takes a window of W samples every H samples while start < N - W, writes `slots`
// values per window, and keeps every S-th of the L raw values, S = ceil(L / 1000). The sample count
// N and the channel count give L, hence S; kept value i is raw value i * S.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace stemfabric {

enum class FeatureGroup : uint8_t {
  kSpectral,
  kTemporal,
  kHarmonic,
  kPercussive,
  kStereo,
  kEnergy
};
inline constexpr int kGroupCount = 6;
inline constexpr std::array<std::string_view, kGroupCount> kGroupNames = {
    "spectral", "temporal", "harmonic", "percussive", "stereo", "energy"};
inline constexpr int64_t kMaxGroupValues = 1000;  // kept values of one group
inline constexpr int64_t kMaxStemValues = 500;    // kept values of one ground-truth stem
inline constexpr int64_t kEnergyValues = 4;       // mean, variance, maximum, minimum

// Windows of one group. Energy has no windows in time: four values for the whole clip.
struct GroupGeometry {
  int64_t hop = 0;
  int64_t window = 0;
  int64_t first_start = 0;  // of frame 0, in samples
  int64_t slots = 0;        // values per frame
  int64_t slot_span = 0;    // samples that one value covers
  int64_t slot_step = 0;    // samples from one slot to the next (0: all cover the whole window)
};
inline constexpr std::array<GroupGeometry, kGroupCount> kGroupGeometry = {{
    {.hop = 512, .window = 2048, .slots = 32, .slot_span = 64, .slot_step = 64},
    {.hop = 1024, .window = 1024, .slots = 3, .slot_span = 1024},
    {.hop = 2048, .window = 2048, .slots = 16, .slot_span = 2048},
    {.hop = 512, .window = 512, .first_start = 512, .slots = 4, .slot_span = 512},
    {.hop = 1024, .window = 1024, .slots = 3, .slot_span = 1024},
    {.hop = 2048, .window = 2048},
}};
constexpr const GroupGeometry& geometry(FeatureGroup group) {
  return kGroupGeometry[static_cast<std::size_t>(group)];
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return a <= 0 ? 0 : (a - 1) / b + 1; }

// Values the exporter computes before it thins them out. A mono clip has three zeros for stereo.
int64_t raw_length(FeatureGroup group, int64_t samples, int64_t channels);

// S for L raw values of which at most `limit` are kept.
constexpr int64_t stride_of(int64_t raw, int64_t limit = kMaxGroupValues) {
  return raw <= limit ? 1 : ceil_div(raw, limit);
}

// The stride of an array with `kept` values, or 0 if no stride makes the raw length into that
// count: the places of its values are then unknown. (Mono: three zeros or nothing.)
int64_t known_stride(FeatureGroup group, int64_t samples, int64_t channels, int64_t kept);

// What raw value r of a group describes.
struct Place {
  int64_t slot = 0;
  int64_t center = 0;  // sample in the middle of what it covers
};
constexpr Place place_of(FeatureGroup group, int64_t raw_index) {
  const GroupGeometry& g = geometry(group);
  const int64_t frame = raw_index / g.slots;
  const int64_t slot = raw_index % g.slots;
  return {slot, g.first_start + frame * g.hop + slot * g.slot_step + g.slot_span / 2};
}

}  // namespace stemfabric
