// A snapshot as the Studio exports it, after parsing and repair: only what the schema names.
// Fields, units and the acceptance policy: docs/snapshots.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/snapshot/layout.h"
#include "trainer/stems.h"

namespace stemfabric {

inline constexpr std::array<std::string_view, 12> kKeyNames = {"C",  "C#", "D",  "D#", "E",  "F",
                                                               "F#", "G",  "G#", "A",  "A#", "B"};
inline constexpr std::array<std::string_view, 9> kClassificationNames = {
    "vocal", "beat", "twotrack", "stems", "sample", "loop", "chop", "full", "unknown"};
inline constexpr int kUnknownClassification = 8;
inline constexpr std::array<std::string_view, 4> kCorrectionTypes = {"boost", "cut", "isolation",
                                                                     "masking"};
inline constexpr int kDominantFrequencies = 10;
inline constexpr int kCorrectionValues = 5;  // features per correction

// Limits of the policy.
inline constexpr uint64_t kMaxSnapshotBytes = 16ULL << 20;
inline constexpr int kMaxSnapshotDepth = 32;
inline constexpr double kMaxDuration = 86400.0;
inline constexpr double kMinSnapshotRate = 3000.0;
inline constexpr double kMaxSnapshotRate = 768000.0;
inline constexpr int kMaxChannels = 32;

enum class Mode : uint8_t { kUnknown, kMinor, kMajor };

struct MusicalContext {
  int key = 0;  // index in kKeyNames
  Mode mode = Mode::kUnknown;
  std::optional<double> bpm;
  int64_t transient_count = 0;
  double transient_density = 0.0;            // per second
  std::vector<double> dominant_frequencies;  // Hz, at most kDominantFrequencies
  double tension = 0.0;                      // 0…1
};

// What the sanitised record keeps of a snapshot, and what `dataset` reads back.
struct SnapshotRecord {
  std::string id;       // UUID in a raw snapshot, 64 hex digits in a sanitised record
  int64_t samples = 0;  // N = round(duration * sample_rate)
  double sample_rate = 0.0;
  int64_t channels = 0;
  std::array<std::vector<float>, kGroupCount> groups;
  std::array<int64_t, kGroupCount> strides{};  // 0: the array's length fits no stride
  MusicalContext context;
  bool has_ground_truth = false;  // a groundTruthStems object, possibly without stems
  std::array<bool, kStemCount> has_stem{};
  std::array<std::vector<float>, kStemCount> stems;
  std::vector<double> corrections;  // kCorrectionValues per correction
  int classification = kUnknownClassification;
  double confidence = 0.0;  // 0…1

  void clear();  // keeps the vectors' memory
};

}  // namespace stemfabric
