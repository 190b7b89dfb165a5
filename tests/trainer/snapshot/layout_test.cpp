// The layout formulas against the exporter's own procedure, taken sample by sample.
#include "trainer/snapshot/layout.h"

#include <gtest/gtest.h>

#include <vector>

namespace stemfabric {
namespace {

struct RawValue {
  int64_t slot;
  int64_t first_sample;
  int64_t last_sample;
};

// Takes windows as the exporter does and notes what each raw value covers.
std::vector<RawValue> export_group(FeatureGroup group, int64_t samples) {
  std::vector<RawValue> values;
  const auto windows = [&](int64_t first, int64_t hop, int64_t window, auto&& take) {
    for (int64_t start = first; start < samples - window; start += hop) {
      take(start);
    }
  };
  switch (group) {
    case FeatureGroup::kSpectral:
      windows(0, 512, 2048, [&](int64_t start) {
        for (int64_t b = 0; b < 32; ++b) {
          values.push_back({b, start + 64 * b, start + 64 * b + 63});
        }
      });
      break;
    case FeatureGroup::kTemporal:
    case FeatureGroup::kStereo:
      windows(0, 1024, 1024, [&](int64_t start) {
        for (int64_t slot = 0; slot < 3; ++slot) {
          values.push_back({slot, start, start + 1023});
        }
      });
      break;
    case FeatureGroup::kHarmonic:
      windows(0, 2048, 2048, [&](int64_t start) {
        for (int64_t slot = 0; slot < 16; ++slot) {
          values.push_back({slot, start, start + 2047});
        }
      });
      break;
    case FeatureGroup::kPercussive:
      windows(512, 512, 512, [&](int64_t start) {
        for (int64_t slot = 0; slot < 4; ++slot) {
          values.push_back({slot, start, start + 511});
        }
      });
      break;
    case FeatureGroup::kEnergy:
      break;
  }
  return values;
}

TEST(SnapshotLayout, MatchesTheExporterAtEveryLength) {
  std::vector<int64_t> lengths;
  for (int64_t n = 0; n <= 4200; ++n) {
    lengths.push_back(n);
  }
  lengths.insert(lengths.end(), {44100, 110250, 735000, 853333, 882000, 920348});
  for (const int64_t samples : lengths) {
    for (const FeatureGroup group :
         {FeatureGroup::kSpectral, FeatureGroup::kTemporal, FeatureGroup::kHarmonic,
          FeatureGroup::kPercussive, FeatureGroup::kStereo}) {
      const std::vector<RawValue> raw = export_group(group, samples);
      const auto count = static_cast<int64_t>(raw.size());
      ASSERT_EQ(raw_length(group, samples, 2), count) << samples;
      std::vector<RawValue> kept;
      const int64_t stride = count <= 1000 ? 1 : (count + 999) / 1000;
      for (int64_t i = 0; i < count; i += stride) {
        kept.push_back(raw[static_cast<std::size_t>(i)]);
      }
      const auto size = static_cast<int64_t>(kept.size());
      ASSERT_EQ(known_stride(group, samples, 2, size), stride);
      ASSERT_EQ(known_stride(group, samples, 2, size + 1), 0);
      for (int64_t i = 0; i < size; ++i) {
        const RawValue& value = kept[static_cast<std::size_t>(i)];
        const Place place = place_of(group, i * stride);
        ASSERT_EQ(place.slot, value.slot);
        ASSERT_EQ(place.center, (value.first_sample + value.last_sample + 1) / 2);
      }
    }
    ASSERT_EQ(raw_length(FeatureGroup::kEnergy, samples, 2), samples > 2048 ? 4 : 0);
    ASSERT_EQ(raw_length(FeatureGroup::kStereo, samples, 1), 3);
  }
}

TEST(SnapshotLayout, MonoStereo) {
  EXPECT_EQ(known_stride(FeatureGroup::kStereo, 882000, 1, 3), 1);
  EXPECT_EQ(known_stride(FeatureGroup::kStereo, 500, 1, 0), 1);
  EXPECT_EQ(known_stride(FeatureGroup::kStereo, 882000, 1, 861), 0);
}

}  // namespace
}  // namespace stemfabric
