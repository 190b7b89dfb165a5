// Which bins of a spectrum a band of a mask reaches.
//
// Bin k lies at position u(k) on the scale of the bands; band j's centre is the bin with u = j:
//   u(k) = r · asinh(k / r)          centre(j) = r · sinh(j / r)
// r > 0 is the one number for which the last band's centre is the last bin, u(K−1) = bands − 1.
// Below bin r, roughly, the scale is linear with one band per bin; above, it is logarithmic: the
// distance of two centres, cosh(j / r) bins, is 1 at bin 0 and grows all the way. With as many
// bands as bins or more, u(k) = k: a band is a bin, and what bands are left reach none.
//
// A bin takes its mask from its two neighbours by linear interpolation on that scale:
//   m[k] = (1 − fraction[k]) · a[band[k]] + fraction[k] · a[band[k] + 1]
//   band[k] = min(floor(u(k)), bands − 2),  fraction[k] = u(k) − band[k] ∈ [0, 1]
// band never decreases, so the bins between two centres are neighbours in memory:
//   band[k] = j  ⇔  first_bin[j] <= k < first_bin[j+1],       first_bin[bands−1] = K
// and band j reaches exactly the bins from first_bin[j−1] to first_bin[j+1]: at least one, if there
// are no more bands than bins.
#pragma once

#include <cstdint>
#include <vector>

namespace stemfabric {

class MaskBandScale {
 public:
  // bands >= 2 and bins >= 2, or an InternalError.
  MaskBandScale(int64_t bands, int64_t bins);

  double position(double bin) const;     // u
  double centre(double position) const;  // its inverse
  // r; infinite with as many bands as bins or more.
  double linear_bins() const { return linear_bins_; }

 private:
  double linear_bins_;
};

// What mask_apply and mask_loss (stem_mask.h) take, to be copied to the device.
struct MaskBandTable {
  std::vector<int32_t> band;       // [K]
  std::vector<float> fraction;     // [K]
  std::vector<int32_t> first_bin;  // [bands]
};
MaskBandTable mask_band_table(int64_t bands, int64_t bins);

}  // namespace stemfabric
