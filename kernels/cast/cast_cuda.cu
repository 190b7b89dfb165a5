// Bound by memory: 6 bytes per element. A thread takes one vector of eight elements, 16 bytes of
// the narrow array and 32 of the wide one; or single elements a block apart where an array is not
// aligned, and at the end.
#include "kernels/cast/cast_cuda.h"
#include "kernels/common/vector.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 8;
constexpr int64_t kTile = int64_t{kThreads} * kPerThread;

template <typename From, typename To, int kWidth>
__global__ void __launch_bounds__(kThreads) cast_kernel(const From* x, To* y, int64_t elements) {
  const int64_t first = blockIdx.x * kTile + int64_t{threadIdx.x} * kWidth;
  if (kWidth == kPerThread && first + kWidth <= elements) {
    store_vector(y + first, load_vector<kWidth>(x + first));
    return;
  }
  constexpr int kStep = kWidth == 1 ? kThreads : 1;
  for (int k = 0; k < kPerThread; ++k) {
    const int64_t i = first + int64_t{k} * kStep;
    if (i < elements) {
      store_vector(y + i, load_vector<1>(x + i));
    }
  }
}

template <typename From, typename To>
void run(const ExecutionContext& ctx, const From* x, To* y, int64_t elements) {
  launch(
      ctx,
      {.kernel = "cast_kernel", .grid = grid_size(ceil_div(elements, kTile)), .block = kThreads},
      aligned_for<kPerThread>(x, y) ? cast_kernel<From, To, kPerThread> : cast_kernel<From, To, 1>,
      x, y, elements);
}

}  // namespace

void cast(const ExecutionContext& ctx, const CastArgs& args) {
  if (args.x.dtype() == DType::kF32) {
    run(ctx, args.x.as<float>(), args.y.as<Bf16>(), args.x.elements());
  } else {
    run(ctx, args.x.as<Bf16>(), args.y.as<float>(), args.x.elements());
  }
}

}  // namespace stemfabric::cuda
