// One thread per element: bound by memory.
#include "kernels/common/launch.cuh"
#include "kernels/standardize/standardize_cuda.h"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    standardize_kernel(const float* x, const float* mean, const float* scale, float* y,
                       int64_t elements, int64_t columns) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < elements) {
    const int64_t c = i % columns;
    y[i] = (x[i] - mean[c]) * scale[c];
  }
}

}  // namespace

void standardize(const ExecutionContext& ctx, const StandardizeArgs& args) {
  const int64_t elements = args.x.elements();
  launch(ctx,
         {.kernel = "standardize_kernel",
          .grid = grid_size(ceil_div(elements, kThreads)),
          .block = kThreads},
         standardize_kernel, args.x.as<float>(), args.mean.as<float>(), args.scale.as<float>(),
         args.y.as<float>(), elements, args.x.dim(1));
}

}  // namespace stemfabric::cuda
