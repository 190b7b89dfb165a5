// Rows of a table by their numbers: y[i] = x[index[i]]. A batch from a data set that lies on the
// device.
//
//   tensor | shape             | dtype | written | note
//   x      | [N, …], contiguous | any   |         | a row is all but the first dimension
//   index  | [B], contiguous    | i32   |         | 0 … N − 1, in any order, also twice
//   y      | [B, …], contiguous | as x  | =       | rows as long as x's
// Copies bits. Of a number outside 0 … N − 1 nothing is read, and its row in y becomes all ones:
// NaN in floats. Deterministic.
#pragma once

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct GatherArgs {
  ConstTensorView x;
  ConstTensorView index;
  TensorView y;
};
void gather(const ExecutionContext& ctx, const GatherArgs& args);

}  // namespace stemfabric
