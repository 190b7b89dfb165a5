// What estimates leave of a mixture, shared among them.
#pragma once

#include "runtime/core/tensor_view.h"

namespace stemfabric {

// Per bin: Ŝ_s += (X − Σ_r Ŝ_r) · |Ŝ_s|² / Σ_r |Ŝ_r|², evenly where all are 0.
//   mixture [1, C, T, K, 2], stems [S, 1, C, T, K, 2]: f32 in host memory, [K, 2] dense
void share_residual(const ConstTensorView& mixture, const TensorView& stems);

}  // namespace stemfabric
