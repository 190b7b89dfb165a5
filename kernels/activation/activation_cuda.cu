// Bound by memory: 8 bytes per element forward, 12 backward (bf16: half), each touched once;
// relu_quantum costs some 50 instructions per element, which is less than what a GPU does in that
// time. A block takes a tile of one vector of 16 bytes per thread (tile.cuh).
#include "kernels/activation/activation_cuda.h"
#include "kernels/activation/activation_math.cuh"
#include "kernels/common/element.h"
#include "kernels/common/tile.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
// Elements of a block's tile.
template <typename T>
constexpr int64_t kTile = int64_t{kThreads} * kVectorOf<T>;

template <typename T, Activation kActivation>
struct Forward {
  QuantumCoefficients q;
  const T* x;
  T* y;

  template <int kWidth>
  __device__ __forceinline__ void at(int64_t i) const {
    auto v = load_vector<kWidth>(x + i);
    for (float& lane : v.lane) {
      lane = activate<kActivation>(lane, q);
    }
    store_vector(y + i, v);
  }
};

template <typename T, Activation kActivation>
struct Backward {
  QuantumCoefficients q;
  const T *x, *dy;
  T* dx;

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

template <typename T, Activation kActivation, int kWidth>
__global__ void __launch_bounds__(kThreads)
    activation_forward_kernel(Forward<T, kActivation> body, int64_t elements) {
  for_tile<kThreads, kVectorOf<T>, kWidth>(elements, body);
}

template <typename T, Activation kActivation, int kWidth>
__global__ void __launch_bounds__(kThreads)
    activation_backward_kernel(Backward<T, kActivation> body, int64_t elements) {
  for_tile<kThreads, kVectorOf<T>, kWidth>(elements, body);
}

template <typename T, Activation kActivation>
void forward(const ExecutionContext& ctx, const ActivationForwardArgs& args) {
  const int64_t n = args.x.elements();
  const Forward<T, kActivation> body = {args.quantum, args.x.as<T>(), args.y.as<T>()};
  launch(ctx,
         {.kernel = "activation_forward_kernel",
          .grid = grid_size(ceil_div(n, kTile<T>)),
          .block = kThreads},
         aligned_for<kVectorOf<T>>(body.x, body.y)
             ? activation_forward_kernel<T, kActivation, kVectorOf<T>>
             : activation_forward_kernel<T, kActivation, 1>,
         body, n);
}

template <typename T, Activation kActivation>
void backward(const ExecutionContext& ctx, const ActivationBackwardArgs& args) {
  const int64_t n = args.x.elements();
  const Backward<T, kActivation> body = {args.quantum, args.x.as<T>(), args.dy.as<T>(),
                                         args.dx.as<T>()};
  launch(ctx,
         {.kernel = "activation_backward_kernel",
          .grid = grid_size(ceil_div(n, kTile<T>)),
          .block = kThreads},
         aligned_for<kVectorOf<T>>(body.x, body.dy, body.dx)
             ? activation_backward_kernel<T, kActivation, kVectorOf<T>>
             : activation_backward_kernel<T, kActivation, 1>,
         body, n);
}

}  // namespace

void activation_forward(const ExecutionContext& ctx, const ActivationForwardArgs& args) {
  with_element(args.x.dtype(), [&]<typename T>() {
    switch (args.activation) {
      case Activation::kNone:
        return forward<T, Activation::kNone>(ctx, args);
      case Activation::kRelu:
        return forward<T, Activation::kRelu>(ctx, args);
      case Activation::kReluQuantum:
        return forward<T, Activation::kReluQuantum>(ctx, args);
    }
  });
}

void activation_backward(const ExecutionContext& ctx, const ActivationBackwardArgs& args) {
  with_element(args.x.dtype(), [&]<typename T>() {
    switch (args.activation) {
      case Activation::kNone:
        return backward<T, Activation::kNone>(ctx, args);
      case Activation::kRelu:
        return backward<T, Activation::kRelu>(ctx, args);
      case Activation::kReluQuantum:
        return backward<T, Activation::kReluQuantum>(ctx, args);
    }
  });
}

}  // namespace stemfabric::cuda
