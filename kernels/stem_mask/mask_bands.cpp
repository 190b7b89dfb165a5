#include "kernels/stem_mask/mask_bands.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The r with r · sinh(last_band / r) = last_bin, for 1 <= last_band < last_bin. The left side falls
// from ∞ to last_band as r grows, so bisection finds it, to the last bit of r.
double solve_linear_bins(double last_band, double last_bin) {
  const auto reaches = [&](double r) { return r * std::sinh(last_band / r) >= last_bin; };
  double low = last_band / 700;  // sinh(700) is about 1e304
  double high = last_band;
  while (reaches(high)) {
    high *= 2;
  }
  for (double r = 0.5 * (low + high); low < r && r < high; r = 0.5 * (low + high)) {
    (reaches(r) ? low : high) = r;
  }
  return low;
}

}  // namespace

MaskBandScale::MaskBandScale(int64_t bands, int64_t bins) {
  SF_CHECK(bands >= 2 && bins >= 2, "mask bands: {} bands over {} bins; both must be 2 or more",
           bands, bins);
  linear_bins_ = bands >= bins ? kInfinity
                               : solve_linear_bins(static_cast<double>(bands - 1),
                                                   static_cast<double>(bins - 1));
}

double MaskBandScale::position(double bin) const {
  return linear_bins_ == kInfinity ? bin : linear_bins_ * std::asinh(bin / linear_bins_);
}

double MaskBandScale::centre(double position) const {
  return linear_bins_ == kInfinity ? position : linear_bins_ * std::sinh(position / linear_bins_);
}

MaskBandTable mask_band_table(int64_t bands, int64_t bins) {
  const MaskBandScale scale(bands, bins);
  SF_CHECK(bands <= INT32_MAX && bins <= INT32_MAX, "mask bands: {} bands over {} bins", bands,
           bins);
  MaskBandTable table;
  for (int64_t k = 0; k < bins; ++k) {
    const double u = scale.position(static_cast<double>(k));
    const double band = std::min(std::floor(u), static_cast<double>(bands - 2));
    table.band.push_back(static_cast<int32_t>(band));
    table.fraction.push_back(static_cast<float>(std::clamp(u - band, 0.0, 1.0)));
  }
  for (int64_t j = 0; j < bands; ++j) {
    const auto first = std::lower_bound(table.band.begin(), table.band.end(), j);
    table.first_bin.push_back(static_cast<int32_t>(first - table.band.begin()));
  }
  return table;
}

}  // namespace stemfabric
