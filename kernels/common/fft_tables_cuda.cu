#include "kernels/common/fft_tables_cuda.h"

namespace stemfabric::cuda {
namespace {

__global__ void __launch_bounds__(kFftThreads)
    fft_tables_kernel(float2* roots, float* window, int n) {
  const int i = static_cast<int>(blockIdx.x * kFftThreads + threadIdx.x);
  float sine = 0;
  float cosine = 0;
  sincospif(static_cast<float>(-2 * i) / static_cast<float>(n), &sine, &cosine);
  roots[i] = make_float2(cosine, sine);
  sincospif(static_cast<float>(i) / static_cast<float>(n), &sine, &cosine);
  window[i] = sine * sine;
}

}  // namespace

DeviceFftTables device_fft_tables(const ExecutionContext& ctx, WorkspaceScope& scope,
                                  int64_t n_fft) {
  auto* roots = scope.take<float2>(n_fft);
  auto* window = scope.take<float>(n_fft);
  launch(
      ctx,
      {.kernel = "fft_tables_kernel", .grid = grid_size(n_fft / kFftThreads), .block = kFftThreads},
      fft_tables_kernel, roots, window, static_cast<int>(n_fft));
  return {.roots = roots, .window = window};
}

}  // namespace stemfabric::cuda
