// One warp: it looks at a few numbers, and its cost is that of a launch.
#include "kernels/common/block_reduce.cuh"
#include "kernels/step_control/step_control_cuda.h"
#include "kernels/step_control/step_control_math.h"

namespace stemfabric::cuda {
namespace {

__device__ __forceinline__ bool all_finite(const double* x, int64_t n) {
  bool finite = true;
  for (int64_t i = threadIdx.x; i < n; i += kWarpLanes) {
    finite = finite && is_finite(x[i]);
  }
  return __all_sync(kFullWarp, finite ? 1 : 0) != 0;
}

__global__ void __launch_bounds__(kWarpLanes) step_control_kernel(StepControlPointers p) {
  const bool loss = all_finite(p.loss, p.losses);
  const bool weighted = all_finite(p.weighted, p.weights);
  if (threadIdx.x == 0) {
    control_step(p, loss && weighted);
  }
}

}  // namespace

void step_control(const ExecutionContext& ctx, const StepControlArgs& args) {
  launch(ctx, {.kernel = "step_control_kernel", .grid = 1, .block = kWarpLanes},
         step_control_kernel, step_control_pointers(args));
}

}  // namespace stemfabric::cuda
