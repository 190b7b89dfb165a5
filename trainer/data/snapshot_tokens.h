// From a sanitised record to one training sample: input tokens, targets, masks (docs/dataset.md has
// the picture). Two layouts of the inputs, two meanings of the stems' values.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/snapshot/schema.h"

namespace stemfabric {

// The time bin, out of `bins` over `samples` samples, that a sample lies in: the exact integer part
// of sample * bins / samples, at most bins - 1. samples < 2^37, bins <= 2^13.
class TimeBins {
 public:
  TimeBins(int64_t samples, int64_t bins)
      : samples_(samples),
        bins_(bins),
        per_sample_(static_cast<double>(bins) / static_cast<double>(samples)) {}
  int64_t operator()(int64_t sample) const {
    const int64_t scaled = sample * bins_;
    auto bin =
        static_cast<int64_t>(static_cast<double>(sample) * per_sample_);  // off by one at most
    bin -= bin * samples_ > scaled ? 1 : 0;
    bin += (bin + 1) * samples_ <= scaled ? 1 : 0;
    return std::clamp<int64_t>(bin, 0, bins_ - 1);
  }

 private:
  int64_t samples_;
  int64_t bins_;
  double per_sample_;
};

enum class TokenLayout : uint8_t {
  kTimeGrid,  // one token per time bin of the clip: slot means, presence flags, musical context
  kPacked,    // the feature vector cut into tokens: a value's place says nothing about its time
};
enum class TargetKind : uint8_t {
  kSamples,  // decimated waveform samples, what the Studio sends
  kBands,    // energies at the places of the mixture's spectral values
};

// From the names of configuration and command line ("time_grid", "packed"; "samples", "bands"); a
// UsageError for any other.
TokenLayout token_layout(std::string_view name);
TargetKind target_kind(std::string_view name);

struct TokenOptions {
  TokenLayout layout = TokenLayout::kTimeGrid;
  TargetKind targets = TargetKind::kSamples;
  int64_t time_bins = 64;          // T of kTimeGrid
  int64_t packed_width = 256;      // F of kPacked
  double correction_weight = 1.0;  // stem_weight = 1 + this * strength
};

// One sample in the shapes of a shard (trainer/data/dataset.h).
struct TokenSample {
  std::vector<float> inputs;         // [T, F], unscaled
  std::vector<uint8_t> input_mask;   // [T]
  std::vector<float> targets;        // [6, T, out]
  std::vector<uint8_t> target_mask;  // [6, T, out]
  std::array<float, kStemCount> stem_weight{};
  std::array<bool, kStemCount> supervised{};  // stems with at least one target
  int64_t dropped_values = 0;                 // of the targets: in a masked token, or beyond `out`
};

class SnapshotTokenizer {
 public:
  explicit SnapshotTokenizer(const TokenOptions& options);

  int64_t tokens() const { return tokens_; }
  int64_t features() const { return features_; }
  int64_t outputs() const { return outputs_; }
  // What input feature f is ("spectral.3.mean", "key.D#"), and whether it is scaled by mean and
  // deviation (flags and one-hot values are not).
  std::vector<std::string> feature_names() const;
  const std::vector<bool>& scaled() const { return scaled_; }
  // For each input feature of a token of the sample tokenised last: 1 if it is scaled and holds a
  // value, else 0.
  void present(const TokenSample& sample, int64_t token, std::vector<float>& flags) const;

  // Not thread-safe (scratch memory).
  void tokenize(const SnapshotRecord& record, TokenSample& sample);

 private:
  void fill_time_grid(const SnapshotRecord& record, TokenSample& sample);
  void fill_packed(const SnapshotRecord& record, TokenSample& sample);
  void fill_targets(const SnapshotRecord& record, TokenSample& sample);
  void place_samples(const SnapshotRecord& record, int stem, TokenSample& sample);
  void place_bands(const SnapshotRecord& record, int stem, TokenSample& sample);

  TokenOptions options_;
  int64_t tokens_ = 0;
  int64_t features_ = 0;
  int64_t outputs_ = 0;
  std::vector<bool> scaled_;
  int64_t target_bins_ = 0;  // tokens that stand for time in the sample at hand
  std::vector<double> sums_;
  std::vector<int32_t> counts_;
  std::vector<float> vector_;
};

}  // namespace stemfabric
