#include "trainer/data/snapshot_tokens.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/check.h"
#include "trainer/snapshot/feature_vector.h"

namespace stemfabric {
namespace {

// Features of a time_grid token.
constexpr int64_t kGridSlots = 58;  // 32 spectral, 3 temporal, 16 harmonic, 4 percussive, 3 stereo
constexpr int64_t kPresence = kGridSlots;
constexpr int64_t kEnergy = 2 * kGridSlots;
constexpr int64_t kEnergyKnown = kEnergy + kEnergyValues;
constexpr int64_t kKey = kEnergyKnown + 1;
constexpr int64_t kMode = kKey + 12;
constexpr int64_t kBpm = kMode + 1;
constexpr int64_t kBpmKnown = kBpm + 1;
constexpr int64_t kDensity = kBpmKnown + 1;
constexpr int64_t kTension = kDensity + 1;
constexpr int64_t kFrequencies = kTension + 1;
constexpr int64_t kGridFeatures = kFrequencies + kDominantFrequencies;
static_assert(kGridFeatures <= 256);

constexpr std::array<int64_t, 5> kFirstSlot = {0, 32, 35, 51, 55};  // of each group with slots

constexpr int64_t kBandOutputs = geometry(FeatureGroup::kSpectral).slots;
// Packed tokens of a song of average length take 500 values in 16 tokens.
constexpr int64_t kPackedOutputs = 32;

// Calls use(place_of with a group known when compiling, whose divisions are then cheap).
template <typename Use>
void with_places_of(FeatureGroup group, Use&& use) {
  const auto fixed = [&]<FeatureGroup kGroup>() {
    use([](int64_t raw) { return place_of(kGroup, raw); });
  };
  switch (group) {
    case FeatureGroup::kSpectral:
      return fixed.template operator()<FeatureGroup::kSpectral>();
    case FeatureGroup::kTemporal:
      return fixed.template operator()<FeatureGroup::kTemporal>();
    case FeatureGroup::kHarmonic:
      return fixed.template operator()<FeatureGroup::kHarmonic>();
    case FeatureGroup::kPercussive:
      return fixed.template operator()<FeatureGroup::kPercussive>();
    default:
      return fixed.template operator()<FeatureGroup::kStereo>();
  }
}

float as_float(double value) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(value, -kMax, kMax));
}

}  // namespace

TokenLayout token_layout(std::string_view name) {
  if (name != "time_grid" && name != "packed") {
    throw UsageError("unknown token layout '{}'; use time_grid or packed", name);
  }
  return name == "packed" ? TokenLayout::kPacked : TokenLayout::kTimeGrid;
}

TargetKind target_kind(std::string_view name) {
  if (name != "samples" && name != "bands") {
    throw UsageError("unknown kind of targets '{}'; use samples or bands", name);
  }
  return name == "bands" ? TargetKind::kBands : TargetKind::kSamples;
}

SnapshotTokenizer::SnapshotTokenizer(const TokenOptions& options) : options_(options) {
  const bool grid = options.layout == TokenLayout::kTimeGrid;
  if (options.time_bins < 1 || options.time_bins > 4096 || options.packed_width < 1 ||
      options.packed_width > 4096) {
    throw UsageError("time bins ({}) and packed width ({}) must be 1 to 4096", options.time_bins,
                     options.packed_width);
  }
  tokens_ = grid ? options.time_bins : ceil_div(kMaxVectorLength, options.packed_width);
  features_ = grid ? kGridFeatures : options.packed_width;
  outputs_ = options.targets == TargetKind::kBands ? kBandOutputs
             : grid                                ? ceil_div(kMaxStemValues, tokens_)
                                                   : kPackedOutputs;
  scaled_.assign(static_cast<std::size_t>(features_), true);
  if (grid) {
    const auto plain = [&](int64_t first, int64_t count) {
      std::fill_n(scaled_.begin() + first, count, false);
    };
    plain(kPresence, kGridSlots);
    plain(kEnergyKnown, 1);
    plain(kKey, 12);
    plain(kMode, 1);
    plain(kBpmKnown, 1);
  }
}

std::vector<std::string> SnapshotTokenizer::feature_names() const {
  std::vector<std::string> names;
  if (options_.layout == TokenLayout::kPacked) {
    for (int64_t i = 0; i < features_; ++i) {
      names.push_back(fmt::format("position.{}", i));
    }
    return names;
  }
  for (const char* what : {"mean", "present"}) {
    for (std::size_t g = 0; g < kFirstSlot.size(); ++g) {
      for (int64_t slot = 0; slot < kGroupGeometry[g].slots; ++slot) {
        names.push_back(fmt::format("{}.{}.{}", kGroupNames[g], slot, what));
      }
    }
  }
  for (const char* name :
       {"energy.mean", "energy.variance", "energy.maximum", "energy.minimum", "energy.present"}) {
    names.emplace_back(name);
  }
  for (const std::string_view key : kKeyNames) {
    names.push_back(fmt::format("key.{}", key));
  }
  for (const char* name : {"mode", "bpm", "bpm.present", "transientDensity", "tensionLevel"}) {
    names.emplace_back(name);
  }
  for (int i = 0; i < kDominantFrequencies; ++i) {
    names.push_back(fmt::format("dominantFrequency.{}", i));
  }
  return names;
}

void SnapshotTokenizer::present(const TokenSample& sample, int64_t token,
                                std::vector<float>& flags) const {
  if (options_.layout == TokenLayout::kPacked) {
    const int64_t values = static_cast<int64_t>(vector_.size()) - token * features_;
    const auto holding = static_cast<std::size_t>(std::clamp<int64_t>(values, 0, features_));
    std::fill(flags.begin(), flags.end(), 0.0F);
    std::fill_n(flags.begin(), holding, 1.0F);
    return;
  }
  const float* row = sample.inputs.data() + token * features_;
  for (std::size_t f = 0; f < flags.size(); ++f) {
    flags[f] = scaled_[f] ? 1.0F : 0.0F;
  }
  std::copy_n(row + kPresence, kGridSlots, flags.begin());
  std::fill_n(flags.begin() + kEnergy, kEnergyValues, row[kEnergyKnown]);
}

void SnapshotTokenizer::tokenize(const SnapshotRecord& record, TokenSample& sample) {
  const auto targets = static_cast<std::size_t>(kStemCount * tokens_ * outputs_);
  sample.inputs.assign(static_cast<std::size_t>(tokens_ * features_), 0.0F);
  sample.input_mask.assign(static_cast<std::size_t>(tokens_), 0);
  sample.targets.assign(targets, 0.0F);
  sample.target_mask.assign(targets, 0);
  sample.supervised.fill(false);
  sample.dropped_values = 0;
  if (options_.layout == TokenLayout::kTimeGrid) {
    fill_time_grid(record, sample);
  } else {
    fill_packed(record, sample);
  }
  fill_targets(record, sample);

  // The strongest correction of a stem counts.
  sample.stem_weight.fill(1.0F);
  for (std::size_t i = 0; i + kCorrectionValues <= record.corrections.size();
       i += kCorrectionValues) {
    const double stem = std::clamp(record.corrections[i] * kStemCount, 0.0, kStemCount - 1.0);
    const double strength = std::clamp(record.corrections[i + 2], 0.0, 1.0);
    float& weight = sample.stem_weight[static_cast<std::size_t>(std::lround(stem))];
    weight = std::max(weight, as_float(1.0 + options_.correction_weight * strength));
  }
}

void SnapshotTokenizer::fill_time_grid(const SnapshotRecord& record, TokenSample& sample) {
  target_bins_ = tokens_;
  sums_.assign(static_cast<std::size_t>(tokens_ * kGridSlots), 0.0);
  counts_.assign(static_cast<std::size_t>(tokens_ * kGridSlots), 0);
  const TimeBins bins(record.samples, tokens_);
  for (std::size_t g = 0; g < kFirstSlot.size(); ++g) {
    const auto group = static_cast<FeatureGroup>(g);
    const int64_t stride = record.strides[g];
    // The stereo values of a mono clip are three zeros that measure nothing.
    if (stride == 0 || (group == FeatureGroup::kStereo && record.channels == 1)) {
      continue;
    }
    with_places_of(group, [&](auto place_at) {
      for (std::size_t i = 0; i < record.groups[g].size(); ++i) {
        const Place place = place_at(static_cast<int64_t>(i) * stride);
        const int64_t bin = bins(place.center);
        const auto at = static_cast<std::size_t>(bin * kGridSlots + kFirstSlot[g] + place.slot);
        sums_[at] += static_cast<double>(record.groups[g][i]);
        ++counts_[at];
      }
    });
  }

  std::array<float, kGridFeatures> context{};
  const auto& energy = record.groups[static_cast<std::size_t>(FeatureGroup::kEnergy)];
  std::copy(energy.begin(), energy.end(), context.begin() + kEnergy);
  context[kEnergyKnown] = energy.empty() ? 0.0F : 1.0F;
  const auto values = context_values(record.context);
  context[static_cast<std::size_t>(kKey + record.context.key)] = 1.0F;
  context[kMode] = record.context.mode == Mode::kMajor   ? 1.0F
                   : record.context.mode == Mode::kMinor ? -1.0F
                                                         : 0.0F;
  context[kBpm] = values[2];
  context[kBpmKnown] = record.context.bpm ? 1.0F : 0.0F;
  context[kDensity] = values[3];
  context[kTension] = values[4];
  for (std::size_t i = 0; i < record.context.dominant_frequencies.size(); ++i) {
    context[kFrequencies + i] = as_float(record.context.dominant_frequencies[i]);
  }

  for (int64_t bin = 0; bin < tokens_; ++bin) {
    const auto first = static_cast<std::size_t>(bin * kGridSlots);
    float* row = sample.inputs.data() + bin * features_;
    bool any = false;
    for (std::size_t slot = 0; slot < kGridSlots; ++slot) {
      const int32_t count = counts_[first + slot];
      if (count > 0) {
        row[slot] = as_float(sums_[first + slot] / count);
        row[kPresence + static_cast<int64_t>(slot)] = 1.0F;
        any = true;
      }
    }
    if (any) {
      std::copy(context.begin() + kEnergy, context.end(), row + kEnergy);
      sample.input_mask[static_cast<std::size_t>(bin)] = 1;
    }
  }
}

void SnapshotTokenizer::fill_packed(const SnapshotRecord& record, TokenSample& sample) {
  vector_.clear();
  append_feature_vector(record, vector_);
  std::copy(vector_.begin(), vector_.end(), sample.inputs.begin());
  target_bins_ = ceil_div(static_cast<int64_t>(vector_.size()), features_);
  std::fill_n(sample.input_mask.begin(), target_bins_, uint8_t{1});
}

void SnapshotTokenizer::fill_targets(const SnapshotRecord& record, TokenSample& sample) {
  for (int stem = 0; stem < kStemCount; ++stem) {
    if (record.stems[static_cast<std::size_t>(stem)].empty() || record.samples == 0) {
      continue;
    }
    if (options_.targets == TargetKind::kSamples) {
      place_samples(record, stem, sample);
    } else {
      place_bands(record, stem, sample);
    }
  }
}

// Value i of a stem is its sample i * s, s = ceil(N / 500); in its time bin it takes the next
// place. A stem whose length differs from the mix's has another s: its values are spread evenly.
void SnapshotTokenizer::place_samples(const SnapshotRecord& record, int stem, TokenSample& sample) {
  const std::vector<float>& values = record.stems[static_cast<std::size_t>(stem)];
  const auto count = static_cast<int64_t>(values.size());
  const int64_t stride = stride_of(record.samples, kMaxStemValues);
  const bool as_mix = ceil_div(record.samples, stride) == count;
  const TimeBins bins(as_mix ? record.samples : count, target_bins_);
  int64_t bin_before = -1;
  int64_t place = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bin = bins(as_mix ? i * stride : i);
    place = bin == bin_before ? place + 1 : 0;
    bin_before = bin;
    if (place >= outputs_ || sample.input_mask[static_cast<std::size_t>(bin)] == 0) {
      ++sample.dropped_values;
      continue;
    }
    const auto at = static_cast<std::size_t>((stem * tokens_ + bin) * outputs_ + place);
    sample.targets[at] = values[static_cast<std::size_t>(i)];
    sample.target_mask[at] = 1;
    sample.supervised[static_cast<std::size_t>(stem)] = true;
  }
}

// Value i of a stem lies where kept value i * h of the mixture's spectral group lies; h = 2 where
// the group has more values than a stem may have. Energies are never negative: an array with
// another count or with a negative value is none, and supervises nothing.
void SnapshotTokenizer::place_bands(const SnapshotRecord& record, int stem, TokenSample& sample) {
  constexpr auto kSpectral = static_cast<std::size_t>(FeatureGroup::kSpectral);
  const std::vector<float>& values = record.stems[static_cast<std::size_t>(stem)];
  const auto count = static_cast<int64_t>(values.size());
  const auto kept = static_cast<int64_t>(record.groups[kSpectral].size());
  const int64_t step = kept <= kMaxStemValues ? 1 : 2;
  const bool energies = record.strides[kSpectral] > 0 && ceil_div(kept, step) == count &&
                        std::all_of(values.begin(), values.end(), [](float v) { return v >= 0; });
  if (!energies) {
    sample.dropped_values += count;
    return;
  }
  const TimeBins bins(record.samples, target_bins_);
  const auto cells = static_cast<std::size_t>(tokens_ * kBandOutputs);
  sums_.assign(cells, 0.0);
  counts_.assign(cells, 0);
  for (int64_t i = 0; i < count; ++i) {
    const Place place = place_of(FeatureGroup::kSpectral, i * step * record.strides[kSpectral]);
    const int64_t bin = bins(place.center);
    if (sample.input_mask[static_cast<std::size_t>(bin)] == 0) {
      ++sample.dropped_values;
      continue;
    }
    const auto at = static_cast<std::size_t>(bin * kBandOutputs + place.slot);
    sums_[at] += static_cast<double>(values[static_cast<std::size_t>(i)]);
    ++counts_[at];
  }
  const std::size_t first = static_cast<std::size_t>(stem) * cells;
  for (std::size_t i = 0; i < cells; ++i) {
    if (counts_[i] > 0) {
      sample.targets[first + i] = as_float(sums_[i] / counts_[i]);
      sample.target_mask[first + i] = 1;
      sample.supervised[static_cast<std::size_t>(stem)] = true;
    }
  }
}

}  // namespace stemfabric
