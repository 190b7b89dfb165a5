// The CUDA implementations behind linear.h; arguments are validated there.
#pragma once

#include "kernels/linear/linear.h"

namespace stemfabric::cuda {

void linear_forward(const ExecutionContext& ctx, const LinearForwardArgs& args);
void linear_backward_input(const ExecutionContext& ctx, const LinearBackwardInputArgs& args);
void linear_backward_kernel(const ExecutionContext& ctx, const LinearBackwardKernelArgs& args);

}  // namespace stemfabric::cuda
