// Bound by memory: 6 bytes per element. A thread takes one vector of eight elements, 16 bytes of
// the narrow array and 32 of the wide one, or as tile.cuh has it.
#include "kernels/cast/cast_cuda.h"
#include "kernels/common/tile.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 8;
constexpr int64_t kTile = int64_t{kThreads} * kPerThread;

template <typename From, typename To>
struct Cast {
  const From* x;
  To* y;

  template <int kWidth>
  __device__ __forceinline__ void at(int64_t i) const {
    store_vector(y + i, load_vector<kWidth>(x + i));
  }
};

template <typename From, typename To, int kWidth>
__global__ void __launch_bounds__(kThreads) cast_kernel(Cast<From, To> body, int64_t elements) {
  for_tile<kThreads, kPerThread, kWidth>(elements, body);
}

template <typename From, typename To>
void run(const ExecutionContext& ctx, const From* x, To* y, int64_t elements) {
  launch(
      ctx,
      {.kernel = "cast_kernel", .grid = grid_size(ceil_div(elements, kTile)), .block = kThreads},
      aligned_for<kPerThread>(x, y) ? cast_kernel<From, To, kPerThread> : cast_kernel<From, To, 1>,
      {x, y}, elements);
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
