// What the CPU's loops over one frame of one stem take; see mask_rows-inl.h.
#pragma once

#include "kernels/stem_mask/mask_layout.h"

namespace stemfabric::cpu {

// Where bands lie among the bins.
struct MaskTable {
  const int32_t* band;
  const float* fraction;
  const int32_t* first_bin;
  int64_t bands, bins;
};

// Scratch memory of one frame of one stem. For a complex mask slope is null: outputs are
// activations.
struct MaskScratch {
  float *activation, *slope;  // planes of [bands]
  float *mask, *dmask;        // planes of [K]: the mask, and the loss's gradient with respect to it
};

// One channel of a frame: spectra as [K, 2], masks and their gradient as planes of [K].
struct MaskLossRow {
  const float *mask_re, *mask_im;  // mask_im is null for a real mask
  const float *mixture, *target;
  float *gradient_re, *gradient_im;  // ∂ Σ element / ∂ mask; null: not wanted
  bool add;                          // += instead of =
  int64_t bins;
};

}  // namespace stemfabric::cpu
