// Masked mean squared error per stem, with its gradient in the same pass.
//
//   present[s,b,t,o] = target_mask[s,b,t,o] ≠ 0 and key_mask[b,t] ≠ 0   (an absent mask is all 1)
//   count[s]         = number of present elements
//   loss[s]          = Σ_{b,t,o} present · (prediction − target)² / count[s],  0 if count[s] = 0
//   weighted[s]      = the same sum with factor weight[b,s]
//   gradient         = weight[b,s] · 2 · present · (prediction − target) / count[s]
// The total loss is Σ_s weighted[s]. The kernel knows no stem names: S is just a leading dimension.
//
//   tensor      | shape        | dtype | written | note
//   prediction  | [S, B, T, O] | f32   |         | any strides, last stride 1
//   target      | [S, B, T, O] | f32   |         | any strides, last stride 1
//   target_mask | [S, B, T, O] | u8    |         | optional, any strides, last stride 1
//   key_mask    | [B, T]       | u8    |         | optional, contiguous
//   weight      | [B, S]       | f32   |         | optional, 1 if absent, contiguous
//   gradient    | [S, B, T, O] | f32 or bf16 (rounded once) | = | optional; strides likewise
//   count       | [S]          | f64   | += by stem_count, read by stem_loss
//   loss        | [S]          | f64   | +=
//   weighted    | [S]          | f64   | +=
// Elements that are not present may be anything, NaN included, in prediction and target: they add
// nothing, and their gradient is exactly 0. Counting is a step of its own, so that several
// micro-batches or ranks can share one denominator: then accumulated gradients equal those of one
// large batch. Squares and sums in float64. Deterministic.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct StemCountArgs {
  ConstTensorView target_mask, key_mask;
  Shape shape;  // [S, B, T, O]
  TensorView count;
};
void stem_count(const ExecutionContext& ctx, const StemCountArgs& args);

struct StemLossArgs {
  ConstTensorView prediction, target, target_mask, key_mask, weight;
  ConstTensorView count;
  TensorView gradient, loss, weighted;
};
void stem_loss(const ExecutionContext& ctx, const StemLossArgs& args);

}  // namespace stemfabric
