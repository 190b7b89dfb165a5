// Bound by memory: 8 bytes per element forward, 12 backward, each touched once; relu_quantum costs
// some 50 instructions per element, which is less than what a GPU does in that time. A block
// takes a tile of four elements per thread: one float4 each if all arrays allow it, else four that
// lie a block apart, so that the loads of a warp are contiguous either way.
#include "kernels/activation/activation_cuda.h"
#include "kernels/activation/activation_math.cuh"
#include "kernels/common/vector.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 4;
constexpr int64_t kTile = int64_t{kThreads} * kPerThread;

// body.at<n>(i) for all elements of this thread, n at a time.
template <int kWidth, typename Body>
__device__ __forceinline__ void for_tile(int64_t elements, const Body& body) {
  const int64_t first = blockIdx.x * kTile + int64_t{threadIdx.x} * kWidth;
  if (kWidth == kPerThread && first + kWidth <= elements) {
    body.template at<kWidth>(first);
    return;
  }
  // Misaligned arrays, or the end of the last tile.
  constexpr int kStep = kWidth == 1 ? kThreads : 1;
  for (int k = 0; k < kPerThread; ++k) {
    const int64_t i = first + int64_t{k} * kStep;
    if (i < elements) {
      body.template at<1>(i);
    }
  }
}

template <Activation kActivation>
struct Forward {
  QuantumCoefficients q;
  const float* x;
  float* y;

  template <int kWidth>
  __device__ __forceinline__ void at(int64_t i) const {
    auto v = load_vector<kWidth>(x + i);
    for (float& lane : v.lane) {
      lane = activate<kActivation>(lane, q);
    }
    store_vector(y + i, v);
  }
};

template <Activation kActivation>
struct Backward {
  QuantumCoefficients q;
  const float *x, *dy;
  float* dx;

  template <int kWidth>
  __device__ __forceinline__ void at(int64_t i) const {
    const auto saved = load_vector<kWidth>(x + i);
    auto v = load_vector<kWidth>(dy + i);
    for (int k = 0; k < kWidth; ++k) {
      v.lane[k] = activation_gradient<kActivation>(saved.lane[k], v.lane[k], q);
    }
    store_vector(dx + i, v);
  }
};

template <Activation kActivation, int kWidth>
__global__ void __launch_bounds__(kThreads)
    activation_forward_kernel(Forward<kActivation> body, int64_t elements) {
  for_tile<kWidth>(elements, body);
}

template <Activation kActivation, int kWidth>
__global__ void __launch_bounds__(kThreads)
    activation_backward_kernel(Backward<kActivation> body, int64_t elements) {
  for_tile<kWidth>(elements, body);
}

template <Activation kActivation>
void forward(const ExecutionContext& ctx, const ActivationForwardArgs& args) {
  const int64_t n = args.x.elements();
  const Forward<kActivation> body = {args.quantum, args.x.as<float>(), args.y.as<float>()};
  launch(ctx,
         {.kernel = "activation_forward_kernel",
          .grid = grid_size(ceil_div(n, kTile)),
          .block = kThreads},
         aligned_for_float4(body.x, body.y) ? activation_forward_kernel<kActivation, kPerThread>
                                            : activation_forward_kernel<kActivation, 1>,
         body, n);
}

template <Activation kActivation>
void backward(const ExecutionContext& ctx, const ActivationBackwardArgs& args) {
  const int64_t n = args.x.elements();
  const Backward<kActivation> body = {args.quantum, args.x.as<float>(), args.dy.as<float>(),
                                      args.dx.as<float>()};
  launch(ctx,
         {.kernel = "activation_backward_kernel",
          .grid = grid_size(ceil_div(n, kTile)),
          .block = kThreads},
         aligned_for_float4(body.x, body.dy, body.dx)
             ? activation_backward_kernel<kActivation, kPerThread>
             : activation_backward_kernel<kActivation, 1>,
         body, n);
}

}  // namespace

void activation_forward(const ExecutionContext& ctx, const ActivationForwardArgs& args) {
  switch (args.activation) {
    case Activation::kNone:
      return forward<Activation::kNone>(ctx, args);
    case Activation::kRelu:
      return forward<Activation::kRelu>(ctx, args);
    case Activation::kReluQuantum:
      return forward<Activation::kReluQuantum>(ctx, args);
  }
}

void activation_backward(const ExecutionContext& ctx, const ActivationBackwardArgs& args) {
  switch (args.activation) {
    case Activation::kNone:
      return backward<Activation::kNone>(ctx, args);
    case Activation::kRelu:
      return backward<Activation::kRelu>(ctx, args);
    case Activation::kReluQuantum:
      return backward<Activation::kReluQuantum>(ctx, args);
  }
}

}  // namespace stemfabric::cuda
