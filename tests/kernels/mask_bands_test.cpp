#include "kernels/stem_mask/mask_bands.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/core/check.h"
#include "tests/oracles/stem_mask_oracle.h"

namespace stemfabric::test {
namespace {

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

struct Size {
  int64_t bands, bins;
};
// All sizes of transforms, few bands to more than there are bins.
std::vector<Size> sizes() {
  std::vector<Size> out = {{2, 2}, {2, 3}, {3, 3}, {7, 5}};
  for (const int64_t n_fft : {512, 1024, 2048, 4096}) {
    const int64_t bins = n_fft / 2 + 1;
    for (const int64_t bands : {int64_t{2}, int64_t{16}, int64_t{37}, int64_t{64}, int64_t{128},
                                int64_t{255}, int64_t{256}, bins - 2, bins - 1, bins, bins + 9}) {
      out.push_back({bands, bins});
    }
  }
  return out;
}

TEST(MaskBands, PositionsAreThoseOfTheFormula) {
  for (const auto& [bands, bins] : sizes()) {
    SCOPED_TRACE(testing::Message() << bands << " bands, " << bins << " bins");
    const MaskBandTable table = mask_band_table(bands, bins);
    const auto positions = mask_positions(bands, bins);
    ASSERT_EQ(table.band.size(), at(bins));
    ASSERT_EQ(table.fraction.size(), at(bins));
    for (int64_t k = 0; k < bins; ++k) {
      const double u = table.band[at(k)] + static_cast<double>(table.fraction[at(k)]);
      ASSERT_NEAR(u, positions[at(k)], 0x1p-24) << k;
    }
  }
}

TEST(MaskBands, TheTableIsInOrder) {
  for (const auto& [bands, bins] : sizes()) {
    SCOPED_TRACE(testing::Message() << bands << " bands, " << bins << " bins");
    const MaskBandTable table = mask_band_table(bands, bins);
    ASSERT_EQ(table.first_bin.size(), at(bands));
    EXPECT_EQ(table.first_bin.front(), 0);
    EXPECT_EQ(table.first_bin.back(), bins);
    for (int64_t k = 0; k < bins; ++k) {
      const int32_t j = table.band[at(k)];
      ASSERT_GE(j, k == 0 ? 0 : table.band[at(k - 1)]);
      ASSERT_LE(j, bands - 2);
      ASSERT_GE(table.fraction[at(k)], 0);
      ASSERT_LE(table.fraction[at(k)], 1);
      ASSERT_LE(table.first_bin[at(j)], k);
      ASSERT_GT(table.first_bin[at(j) + 1], k);
    }
  }
}

TEST(MaskBands, EveryBandReachesABin) {
  for (const auto& [bands, bins] : sizes()) {
    if (bands > bins) {
      continue;
    }
    SCOPED_TRACE(testing::Message() << bands << " bands, " << bins << " bins");
    const MaskBandTable table = mask_band_table(bands, bins);
    std::vector<double> reach(at(bands));
    for (int64_t k = 0; k < bins; ++k) {
      reach[at(table.band[at(k)])] += 1 - static_cast<double>(table.fraction[at(k)]);
      reach[at(table.band[at(k)]) + 1] += static_cast<double>(table.fraction[at(k)]);
    }
    for (const double r : reach) {
      EXPECT_GT(r, 0.25);
    }
  }
}

TEST(MaskBands, TheScaleIsMonotoneAndInvertible) {
  for (const auto& [bands, bins] : sizes()) {
    SCOPED_TRACE(testing::Message() << bands << " bands, " << bins << " bins");
    const MaskBandScale scale(bands, bins);
    const double last = static_cast<double>(std::min(bands, bins) - 1);
    EXPECT_EQ(scale.position(0), 0);
    EXPECT_NEAR(scale.position(static_cast<double>(bins - 1)), last, 1e-9 * last);
    EXPECT_NEAR(scale.centre(last), static_cast<double>(bins - 1),
                1e-9 * static_cast<double>(bins));
    double distance = 1 - 1e-9;  // of neighbouring centres: one bin, then more and more
    for (int64_t j = 1; j <= std::min(bands, bins) - 1; ++j) {
      const double centre = scale.centre(static_cast<double>(j));
      EXPECT_NEAR(scale.position(centre), static_cast<double>(j), 1e-9 * last);
      const double next = centre - scale.centre(static_cast<double>(j - 1));
      EXPECT_GE(next, distance - 1e-9 * centre);
      distance = next;
    }
  }
}

// The bass keeps a band per bin: up to the corner, centres are less than cosh(1) = 1.54 bins apart.
TEST(MaskBands, LowBandsAreBins) {
  const MaskBandScale scale(128, 2049);
  EXPECT_GT(scale.linear_bins(), 20);
  EXPECT_LT(scale.linear_bins(), 30);
  EXPECT_LT(scale.centre(1) - scale.centre(0), 1.001);
  EXPECT_LT(scale.centre(10) - scale.centre(9), 1.1);
}

TEST(MaskBands, AsManyBandsAsBinsAreTheBins) {
  for (const int64_t bands : {33, 40}) {
    const MaskBandTable table = mask_band_table(bands, 33);
    for (int64_t k = 0; k < 33; ++k) {
      const bool last = k == bands - 1;  // reached from its left neighbour
      EXPECT_EQ(table.band[at(k)], last ? k - 1 : k);
      EXPECT_EQ(table.fraction[at(k)], last ? 1 : 0);
    }
  }
}

TEST(MaskBands, RefusesLessThanTwo) {
  EXPECT_THROW(mask_band_table(1, 257), InternalError);
  EXPECT_THROW(mask_band_table(16, 1), InternalError);
}

}  // namespace
}  // namespace stemfabric::test
