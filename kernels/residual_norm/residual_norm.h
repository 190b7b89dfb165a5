// Residual + dropout + layer norm in one pass, and its gradient.
//
//   sum = residual + dropout(x)           (x absent: sum = residual)
//   y   = (sum − mean) · rstd · gamma + beta,  rstd = 1/√(population variance + epsilon)
//
//   dsum'     = rstd · (g − mean(g) − xhat · mean(g · xhat)),  g = dy · gamma,
//               xhat = (sum − mean) · rstd
//   dresidual = dsum' + dsum,   dx = dropout(dresidual)
//   dgamma   += Σ_m dy · xhat,  dbeta += Σ_m dy
//
//   tensor       | shape  | dtype | written | note
//   x, residual  | [M, C] | X     |         | x optional
//   gamma, beta  | [C]    | f32   |         |
//   sum          | [M, C] | X     | =       | may be the same memory as x or residual
//   y            | [M, C] | X     | =       | absent: only the sum is formed, nothing else is used
//   mean, rstd   | [M]    | f32   | =       | absent in inference; saved for backward with sum
//   dy           | [M, C] | X     |         | absent if y was: dsum alone is passed on, and sum,
//                |        |       |         | mean, rstd, gamma, dgamma, dbeta are not used
//   dsum         | [M, C] | X     |         | optional: gradient that reaches sum from elsewhere
//   dresidual    | [M, C] | X     | =       | may be the same memory as dy or dsum
//   dx           | [M, C] | X     | =       | optional: dropout applied to dresidual
//   dgamma,dbeta | [C]    | f32   | +=      |
// X: f32 or bf16, the same for all of a call; computed in float32. In bf16 the norm is of the sum
// as it was rounded, and dx of the dresidual before it is. All contiguous; C >= 1. Row m is token m
// mod T of sample m / T. Dropout of element (sample b, token t, channel c): Philox counter (c/8, t,
// sample0 + b, 0), lane c mod 8; a dropped element counts as 0 even where x is not finite. The
// variance is formed in two passes around the mean. Deterministic. Source: Ba, Kiros, Hinton,
// "Layer normalization", 2016.
#pragma once

#include "kernels/common/philox.h"
#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

struct ResidualNormForwardArgs {
  ConstTensorView x, residual, gamma, beta;
  TensorView sum, y, mean, rstd;
  float epsilon = 1e-5f;
  DropoutConfig dropout;
  int64_t tokens_per_sample = 1;  // T
};
void residual_norm_forward(const ExecutionContext& ctx, const ResidualNormForwardArgs& args);

struct ResidualNormBackwardArgs {
  ConstTensorView dy, dsum, sum, mean, rstd, gamma;
  TensorView dresidual, dx, dgamma, dbeta;
  DropoutConfig dropout;
  int64_t tokens_per_sample = 1;
};
void residual_norm_backward(const ExecutionContext& ctx, const ResidualNormBackwardArgs& args);

}  // namespace stemfabric
