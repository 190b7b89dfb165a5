// On a GPU the linear ops are cuBLASLt's products, which the executor cannot run: in their place
// stand the CPU's, which have the same contract.
#include "kernels/linear/linear_cpu.h"
#include "kernels/linear/linear_cuda.h"

namespace stemfabric::cuda {

void linear_forward(const ExecutionContext& ctx, const LinearForwardArgs& args) {
  cpu::linear_forward(ctx, args);
}
void linear_backward_input(const ExecutionContext& ctx, const LinearBackwardInputArgs& args) {
  cpu::linear_backward_input(ctx, args);
}
void linear_backward_kernel(const ExecutionContext& ctx, const LinearBackwardKernelArgs& args) {
  cpu::linear_backward_kernel(ctx, args);
}

}  // namespace stemfabric::cuda
