// Bound by memory. A thread takes as many elements of a row as 16 bytes of the result hold, or one.
#include "kernels/common/element.h"
#include "kernels/common/vector.cuh"
#include "kernels/standardize/standardize_cuda.h"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    standardize_kernel(const float* x, const float* mean, const float* scale, T* y,
                       int64_t elements, int64_t columns) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
  if (i < elements) {
    const int64_t c = i % columns;
    auto v = load_vector<kWidth>(x + i);
    const auto m = load_vector<kWidth>(mean + c);
    const auto s = load_vector<kWidth>(scale + c);
    for (int k = 0; k < kWidth; ++k) {
      v.lane[k] = (v.lane[k] - m.lane[k]) * s.lane[k];
    }
    store_vector(y + i, v);
  }
}

template <typename T, int kWidth>
void run(const ExecutionContext& ctx, const StandardizeArgs& args) {
  const int64_t elements = args.x.elements();
  launch(ctx,
         {.kernel = "standardize_kernel",
          .grid = grid_size(ceil_div(elements, int64_t{kThreads} * kWidth)),
          .block = kThreads},
         standardize_kernel<T, kWidth>, args.x.as<float>(), args.mean.as<float>(),
         args.scale.as<float>(), args.y.as<T>(), elements, args.x.dim(1));
}

}  // namespace

void standardize(const ExecutionContext& ctx, const StandardizeArgs& args) {
  with_element(args.y.dtype(), [&]<typename T>() {
    const bool wide = args.x.dim(1) % kVectorOf<T> == 0 &&
                      aligned_for<kVectorOf<T>>(args.x.as<float>(), args.mean.as<float>(),
                                                args.scale.as<float>(), args.y.as<T>());
    wide ? run<T, kVectorOf<T>>(ctx, args) : run<T, 1>(ctx, args);
  });
}

}  // namespace stemfabric::cuda
