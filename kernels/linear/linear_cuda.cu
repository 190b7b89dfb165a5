// The linear ops on a GPU: a product of matmul_cuda.h with what it can do along the way (bias,
// ReLU, the bias gradient), and one elementwise kernel for what it cannot:
//   position rows, the quantum activation and its pre-activation   (linear_epilogue_kernel)
//   an activation's derivative, but ReLU's where the forward left a bit mask (linear_gate_kernel)
//
// Both kernels are bound by memory: the epilogue reads 4 bytes per element and writes 4 or 8, the
// gate reads 8 and writes 4 (bf16: half of that). A block is 32 vectors of four columns wide (a
// warp reads 512 consecutive bytes, 256 of bf16) and eight rows high; rows beyond the grid are
// taken in a loop. Odd widths, strides or addresses go by single columns.
#include <cstdint>

#include "kernels/activation/activation_math.cuh"
#include "kernels/common/element.h"
#include "kernels/common/launch.cuh"
#include "kernels/common/vector.cuh"
#include "kernels/linear/linear_cuda.h"
#include "kernels/linear/linear_layers.h"
#include "kernels/linear/matmul_cuda.h"
#include "kernels/reduction/reduction.h"

namespace stemfabric::cuda {
namespace {

constexpr int kColumnThreads = 32;
constexpr int kRowThreads = 8;
constexpr int kThreads = kColumnThreads * kRowThreads;
constexpr int64_t kMaxRowBlocks = 4096;
constexpr int64_t kSumAlignment = 16;  // elements, of each layer's bias gradient

// v = in + bias[n] + row_bias[m mod period];  pre = v;  y = act(v). Absent parts are null; without
// `in` it counts as 0. `in` may be y or pre.
template <typename T>
struct Epilogue {
  const T* in = nullptr;
  int64_t in_stride = 0;
  const T* bias = nullptr;
  const T* row_bias = nullptr;
  int64_t row_bias_stride = 0, row_bias_period = 1;
  T* pre = nullptr;
  int64_t pre_stride = 0;
  T* y = nullptr;
  int64_t y_stride = 0;
  int64_t rows = 0, columns = 0;
  QuantumCoefficients quantum;
  // How far the next layer's tensors lie; blocks of one layer have one blockIdx.z.
  int64_t layers = 1;
  int64_t in_step = 0, bias_step = 0, row_bias_step = 0, pre_step = 0, y_step = 0;

  __device__ void to_layer(int64_t layer) {
    in += layer * in_step;
    bias += layer * bias_step;
    row_bias += layer * row_bias_step;
    pre += layer * pre_step;
    y += layer * y_step;
  }
};

// dx = act'(saved) · dx; 0 instead of dx if it holds no product.
template <typename T>
struct Gate {
  const T* saved = nullptr;
  int64_t saved_stride = 0;
  T* dx = nullptr;
  int64_t dx_stride = 0;
  bool has_product = true;
  int64_t rows = 0, columns = 0;
  QuantumCoefficients quantum;
  int64_t layers = 1;
  int64_t saved_step = 0, dx_step = 0;

  __device__ void to_layer(int64_t layer) {
    saved += layer * saved_step;
    dx += layer * dx_step;
  }
};

template <typename T, int kWidth, Activation kActivation>
__global__ void __launch_bounds__(kThreads) linear_epilogue_kernel(Epilogue<T> e) {
  const int64_t column = (int64_t{blockIdx.x} * kColumnThreads + threadIdx.x) * kWidth;
  if (column >= e.columns) {
    return;
  }
  e.to_layer(blockIdx.z);
  FloatVector<kWidth> bias{};
  if (e.bias != nullptr) {
    bias = load_vector<kWidth>(e.bias + column);
  }
  const int64_t step = int64_t{gridDim.y} * kRowThreads;
  for (int64_t row = int64_t{blockIdx.y} * kRowThreads + threadIdx.y; row < e.rows; row += step) {
    FloatVector<kWidth> v{};
    FloatVector<kWidth> position{};
    if (e.in != nullptr) {
      v = load_vector<kWidth>(e.in + row * e.in_stride + column);
    }
    if (e.row_bias != nullptr) {
      position =
          load_vector<kWidth>(e.row_bias + row % e.row_bias_period * e.row_bias_stride + column);
    }
    for (int i = 0; i < kWidth; ++i) {
      v.lane[i] = v.lane[i] + bias.lane[i] + position.lane[i];
    }
    if (e.pre != nullptr) {
      store_vector(e.pre + row * e.pre_stride + column, v);
    }
    for (int i = 0; i < kWidth; ++i) {
      v.lane[i] = activate<kActivation>(v.lane[i], e.quantum);
    }
    store_vector(e.y + row * e.y_stride + column, v);
  }
}

template <typename T, int kWidth, Activation kActivation>
__global__ void __launch_bounds__(kThreads) linear_gate_kernel(Gate<T> g) {
  const int64_t column = (int64_t{blockIdx.x} * kColumnThreads + threadIdx.x) * kWidth;
  if (column >= g.columns) {
    return;
  }
  g.to_layer(blockIdx.z);
  const int64_t step = int64_t{gridDim.y} * kRowThreads;
  for (int64_t row = int64_t{blockIdx.y} * kRowThreads + threadIdx.y; row < g.rows; row += step) {
    const auto saved = load_vector<kWidth>(g.saved + row * g.saved_stride + column);
    FloatVector<kWidth> dx{};
    if (g.has_product) {
      dx = load_vector<kWidth>(g.dx + row * g.dx_stride + column);
    }
    for (int i = 0; i < kWidth; ++i) {
      dx.lane[i] = activation_gradient<kActivation>(saved.lane[i], dx.lane[i], g.quantum);
    }
    store_vector(g.dx + row * g.dx_stride + column, dx);
  }
}

template <typename Kernel, typename Arguments>
void launch_rows(const ExecutionContext& ctx, const char* name, Kernel kernel,
                 const Arguments& arguments, int width) {
  const int64_t row_blocks = std::min(ceil_div(arguments.rows, kRowThreads), kMaxRowBlocks);
  launch(ctx,
         {.kernel = name,
          .grid = {grid_size(ceil_div(arguments.columns, int64_t{width} * kColumnThreads)),
                   grid_size(row_blocks), grid_size(arguments.layers)},
          .block = {kColumnThreads, kRowThreads}},
         kernel, arguments);
}

template <typename T>
void run_epilogue(const ExecutionContext& ctx, const Epilogue<T>& e, Activation activation) {
  const int64_t sizes = e.columns | e.in_stride | e.row_bias_stride | e.pre_stride | e.y_stride |
                        e.in_step | e.bias_step | e.row_bias_step | e.pre_step | e.y_step;
  const bool vectors = sizes % 4 == 0 && aligned_for<4>(e.in, e.bias, e.row_bias, e.pre, e.y);
  const auto run = [&]<Activation kActivation>() {
    if (vectors) {
      launch_rows(ctx, "linear_epilogue_kernel", linear_epilogue_kernel<T, 4, kActivation>, e, 4);
    } else {
      launch_rows(ctx, "linear_epilogue_kernel", linear_epilogue_kernel<T, 1, kActivation>, e, 1);
    }
  };
  switch (activation) {
    case Activation::kNone:
      return run.template operator()<Activation::kNone>();
    case Activation::kRelu:
      return run.template operator()<Activation::kRelu>();
    case Activation::kReluQuantum:
      return run.template operator()<Activation::kReluQuantum>();
  }
}

template <typename T>
void run_gate(const ExecutionContext& ctx, const Gate<T>& g, Activation activation) {
  const int64_t sizes = g.columns | g.saved_stride | g.dx_stride | g.saved_step | g.dx_step;
  const bool vectors = sizes % 4 == 0 && aligned_for<4>(g.saved, g.dx);
  const auto run = [&]<Activation kActivation>() {
    if (vectors) {
      launch_rows(ctx, "linear_gate_kernel", linear_gate_kernel<T, 4, kActivation>, g, 4);
    } else {
      launch_rows(ctx, "linear_gate_kernel", linear_gate_kernel<T, 1, kActivation>, g, 1);
    }
  };
  if (activation == Activation::kRelu) {
    run.template operator()<Activation::kRelu>();
  } else {
    run.template operator()<Activation::kReluQuantum>();
  }
}

// A matrix, or those of several layers.
MatmulOperand operand(const ConstTensorView& view, bool transposed = false) {
  return {view.data(), view.stride(-2), transposed, layer_stride(view, view.rank() == 3)};
}

// T: the element type of y and what is added to it.
template <typename T>
void forward(const ExecutionContext& ctx, const LinearForwardArgs& args) {
  const int64_t m = args.x.dim(-2);
  const int64_t k = args.x.dim(-1);
  const int64_t n = args.kernel.dim(-1);
  const int64_t layers = layer_count(args.x);
  const bool several = args.x.rank() == 3;
  if (args.relu_mask) {
    *args.relu_mask_written = false;
  }
  if (m == 0 || n == 0 || layers == 0) {
    return;
  }
  // Into the pre-activation if it is wanted, so that the epilogue writes it only to add positions.
  const TensorView product = args.pre_activation ? args.pre_activation : args.y;
  const bool relu = args.activation == Activation::kRelu && !args.row_bias && !args.pre_activation;
  const bool bias = args.bias && !args.row_bias;
  MatmulDone done;
  if (k > 0) {
    done = matmul(ctx, {.batch = layers,
                        .m = m,
                        .n = n,
                        .k = k,
                        .dtype = args.x.dtype(),
                        .a = operand(args.x),
                        .b = operand(args.kernel),
                        .c_dtype = product.dtype(),
                        .c = product.data(),
                        .c_stride = product.stride(-2),
                        .c_step = layer_stride(product, several),
                        .bias = bias ? args.bias.data() : nullptr,
                        .relu = relu,
                        .relu_mask = args.relu_mask ? args.relu_mask.data() : nullptr,
                        .vector_step = layer_stride(args.bias, several)});
  }
  const bool fused = done.epilogue;
  if (args.relu_mask) {
    *args.relu_mask_written = done.relu_mask;
  }
  const bool add_bias = args.bias && !(fused && bias);
  const bool add = add_bias || args.row_bias || k == 0;
  const bool activate = args.activation != Activation::kNone && !(fused && relu);
  if (!add && !activate && !args.pre_activation) {
    return;
  }
  Epilogue<T> e{.y = args.y.as<T>(),
                .y_stride = args.y.stride(-2),
                .rows = m,
                .columns = n,
                .quantum = args.quantum,
                .layers = layers,
                .y_step = layer_stride(args.y, several)};
  if (k > 0) {
    e.in = product.as<T>();
    e.in_stride = product.stride(-2);
    e.in_step = layer_stride(product, several);
  }
  if (add_bias) {
    e.bias = args.bias.as<T>();
    e.bias_step = layer_stride(args.bias, several);
  }
  if (args.row_bias) {
    e.row_bias = args.row_bias.as<T>();
    e.row_bias_stride = args.row_bias.stride(-2);
    e.row_bias_period = args.row_bias.dim(-2);
    e.row_bias_step = layer_stride(args.row_bias, several);
  }
  if (args.pre_activation && add) {
    e.pre = args.pre_activation.as<T>();
    e.pre_stride = args.pre_activation.stride(-2);
    e.pre_step = layer_stride(args.pre_activation, several);
  }
  run_epilogue(ctx, e, args.activation);
}

// T: the element type of dx.
template <typename T>
void backward_input(const ExecutionContext& ctx, const LinearBackwardInputArgs& args) {
  const int64_t m = args.dy.dim(-2);
  const int64_t n = args.dy.dim(-1);
  const int64_t k = args.kernel.dim(-2);
  const int64_t layers = layer_count(args.dy);
  const bool several = args.dy.rank() == 3;
  if (m == 0 || k == 0 || layers == 0) {
    return;
  }
  const int64_t dx_step = layer_stride(args.dx, several);
  bool gated = false;
  if (n > 0) {
    const bool by_mask = static_cast<bool>(args.relu_mask);
    const MatmulDone done =
        matmul(ctx, {.batch = layers,
                     .m = m,
                     .n = k,
                     .k = n,
                     .dtype = args.dy.dtype(),
                     .a = operand(args.dy),
                     .b = operand(args.kernel, true),
                     .c_dtype = args.dx.dtype(),
                     .c = args.dx.data(),
                     .c_stride = args.dx.stride(-2),
                     .c_step = dx_step,
                     .accumulate = args.accumulate,
                     .relu_mask = by_mask ? const_cast<void*>(args.relu_mask.data()) : nullptr,
                     .relu_gradient = by_mask});
    gated = by_mask && done.epilogue;
  }
  if (args.input_activation != Activation::kNone && !gated) {
    run_gate<T>(ctx,
                {.saved = args.saved.as<T>(),
                 .saved_stride = args.saved.stride(-2),
                 .dx = args.dx.as<T>(),
                 .dx_stride = args.dx.stride(-2),
                 .has_product = n > 0,
                 .rows = m,
                 .columns = k,
                 .quantum = args.quantum,
                 .layers = layers,
                 .saved_step = layer_stride(args.saved, several),
                 .dx_step = dx_step},
                args.input_activation);
  } else if (n == 0 && !args.accumulate) {
    run_epilogue<T>(ctx,
                    {.y = args.dx.as<T>(),
                     .y_stride = args.dx.stride(-2),
                     .rows = m,
                     .columns = k,
                     .layers = layers,
                     .y_step = dx_step},
                    Activation::kNone);
  }
}

}  // namespace

void linear_forward(const ExecutionContext& ctx, const LinearForwardArgs& args) {
  with_element(args.y.dtype(), [&]<typename T>() { forward<T>(ctx, args); });
}

void linear_backward_input(const ExecutionContext& ctx, const LinearBackwardInputArgs& args) {
  with_element(args.dx.dtype(), [&]<typename T>() { backward_input<T>(ctx, args); });
}

void linear_backward_kernel(const ExecutionContext& ctx, const LinearBackwardKernelArgs& args) {
  const int64_t m = args.x.dim(-2);
  const int64_t k = args.x.dim(-1);
  const int64_t n = args.dy.dim(-1);
  const int64_t layers = layer_count(args.x);
  const bool several = args.x.rank() == 3;
  if (m == 0 || n == 0 || layers == 0) {
    return;
  }
  WorkspaceScope scope(ctx.workspace());
  // The library's sum replaces what is there, the contract's is added.
  const int64_t sum_step = ceil_div(n, kSumAlignment) * kSumAlignment;
  float* sum = args.dbias && k > 0 ? scope.take<float>(layers * sum_step) : nullptr;
  bool fused = false;
  if (k > 0) {
    const MatmulDone done = matmul(ctx, {.batch = layers,
                                         .m = k,
                                         .n = n,
                                         .k = m,
                                         .dtype = args.x.dtype(),
                                         .a = operand(args.x, true),
                                         .b = operand(args.dy),
                                         .c = args.dkernel.data(),
                                         .c_stride = args.dkernel.stride(-2),
                                         .c_step = layer_stride(args.dkernel, several),
                                         .accumulate = true,
                                         .b_column_sum = sum,
                                         .vector_step = sum_step});
    fused = done.epilogue;
  }
  if (!args.dbias) {
    return;
  }
  if (fused) {
    const int64_t dbias_step = layer_stride(args.dbias, several);
    run_epilogue<float>(ctx,
                        {.in = args.dbias.as<float>(),
                         .bias = sum,
                         .y = args.dbias.as<float>(),
                         .rows = 1,
                         .columns = n,
                         .layers = layers,
                         .in_step = dbias_step,
                         .bias_step = sum_step,
                         .y_step = dbias_step},
                        Activation::kNone);
    return;
  }
  for (int64_t layer = 0; layer < layers; ++layer) {
    const LinearBackwardKernelArgs one = several ? layer_of(args, layer) : args;
    column_sum(ctx, {.x = one.dy, .out = one.dbias.reshape({1, n})});
  }
}

}  // namespace stemfabric::cuda
