// Masks on spectra: the model's outputs, one value per band, become a mask per bin; the mask times
// the mixture's spectrum is the estimate of a stem.
//
//   a        = sigmoid(prediction)  for a real mask,  = prediction  for a complex one
//   m[k]     = (1 − fraction[k]) · a[band[k]] + fraction[k] · a[band[k] + 1]     (mask_bands.h)
//   estimate = m[k] · mixture[k]                                          (a complex product)
//
// The O = mask channels · parts · bands outputs of a frame lie as [mask channels][parts][bands]:
// one mask per channel of the signal, or one for all of them; parts = 1 (real) or 2 (complex: real
// part, imaginary part). How many mask channels there are follows from O.
//
// The loss of a stem, with its gradient in the same pass:
//   present[b,s,t]   = presence[b,s] ≠ 0 and key_mask[b,t] ≠ 0          (an absent mask is all 1)
//   count[s]         = number of present elements (b,c,t,k)
//   |z|ε             = √(|z|² + ε²)
//   element          = magnitude_weight · (|estimate|ε^p − |target|ε^p)²
//                      + complex_weight · |estimate − target|²,      p = compression
//   loss[s]          = Σ_{b,c,t,k} present · element / count[s],  0 if count[s] = 0
//   weighted[s]      = the same sum with factor weight[b,s]
//   gradient         = ∂ Σ_s weighted[s] / ∂ prediction
// The total loss is Σ_s weighted[s]. The kernel knows no stem names: S is just a leading dimension.
//
//   tensor     | shape              | dtype | written | note
//   band       | [K]                | i32   |         | these three as mask_band_table makes them
//   fraction   | [K]                | f32   |         |   for these bands and bins; contiguous;
//   first_bin  | [bands]            | i32   |         |   their values are not checked
//   prediction | [S, B, T, O]       | f32   |         | any strides, last stride 1
//   mixture    | [B, C, T, K, 2]    | f32   |         | real and imaginary part; any strides, but
//   target     | [S, B, C, T, K, 2] | f32   |         |   [K, 2] is dense, in all three spectra
//   estimate   | [S, B, C, T, K, 2] | f32   | =       |
//   presence   | [B, S]             | u8    |         | optional, contiguous: is the stem there?
//   key_mask   | [B, T]             | u8    |         | optional, contiguous: is the frame there?
//   weight     | [B, S]             | f32   |         | optional, 1 if absent, contiguous
//   gradient   | [S, B, T, O]       | f32 or bf16 (rounded once) | = | optional; strides likewise
//   count      | [S]                | f64   | +=      | by mask_count; mask_loss reads it
//   loss       | [S]                | f64   | +=      |
//   weighted   | [S]                | f64   | +=      |
// What is not present may be anything, NaN included, in prediction, mixture and target: it adds
// nothing, and its gradient is exactly 0. A present NaN reaches the loss of its stem, and the
// gradient of the bands beside it in its frame. Counting is a step of its own, so that several
// micro-batches or ranks can share one denominator: then accumulated gradients equal those of one
// large batch. Elements in float32, their sums in float64. Deterministic.
// Source: Hennequin et al. 2020 (real masks on a mixture), Williamson et al. 2016 (complex masks),
// Ephrat et al. 2018 (loss on compressed magnitudes and complex values).
#pragma once

#include "kernels/stem_mask/mask_bands.h"
#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

enum class MaskKind : uint8_t { kReal, kComplex };

struct MaskApplyArgs {
  MaskKind kind = MaskKind::kReal;
  ConstTensorView band, fraction, first_bin;
  ConstTensorView prediction, mixture;
  TensorView estimate;
};
void mask_apply(const ExecutionContext& ctx, const MaskApplyArgs& args);

struct MaskCountArgs {
  ConstTensorView presence, key_mask;
  Shape shape;  // [S, B, C, T, K]
  TensorView count;
};
void mask_count(const ExecutionContext& ctx, const MaskCountArgs& args);

struct MaskLossArgs {
  MaskKind kind = MaskKind::kReal;
  double magnitude_weight = 1, complex_weight = 1;  // >= 0
  double compression = 1;                           // p, in [0.001, 1]; 1 and 0.5 are fastest
  double epsilon = 1e-3;  // in [1e-15, 1e15], so that ε² is a normal float32
  ConstTensorView band, fraction, first_bin;
  ConstTensorView prediction, mixture, target, presence, key_mask, weight;
  ConstTensorView count;
  TensorView gradient, loss, weighted;
};
void mask_loss(const ExecutionContext& ctx, const MaskLossArgs& args);

}  // namespace stemfabric
