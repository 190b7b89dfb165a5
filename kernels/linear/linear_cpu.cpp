#include "kernels/linear/linear_cpu.h"

#include "kernels/common/widened.h"
#include "kernels/linear/gemm.h"
#include "kernels/linear/linear_layers.h"

namespace stemfabric::cpu {
namespace {

GemmOperand operand(const ConstTensorView& view, bool transposed = false) {
  return {view.as<float>(), view.stride(0), transposed};
}

// Whether the call was of several layers; then each of them was computed.
template <typename Args>
bool each_layer(const ExecutionContext& ctx, const Args& args, const ConstTensorView& factor,
                void (*op)(const ExecutionContext&, const Args&)) {
  if (factor.rank() != 3) {
    return false;
  }
  for (int64_t layer = 0; layer < factor.dim(0); ++layer) {
    op(ctx, layer_of(args, layer));
  }
  return true;
}

}  // namespace

void linear_forward(const ExecutionContext& ctx, const LinearForwardArgs& args) {
  if (args.relu_mask) {
    *args.relu_mask_written = false;
  }
  if (each_layer(ctx, args, args.x, linear_forward)) {
    return;
  }
  if (args.x.dtype() == DType::kBF16) {
    return in_float32(ctx, args, linear_forward, [](Widened& f32, auto& a) {
      f32.input(a.x);
      f32.input(a.kernel);
      f32.input(a.bias);
      f32.input(a.row_bias);
      f32.output(a.y);
      f32.output(a.pre_activation);
    });
  }
  GemmArgs g{.m = args.x.dim(0),
             .n = args.kernel.dim(1),
             .k = args.x.dim(1),
             .a = operand(args.x),
             .b = operand(args.kernel),
             .c = args.y.as<float>(),
             .c_stride = args.y.stride(0)};
  if (args.bias) {
    g.epilogue.bias = args.bias.as<float>();
  }
  if (args.row_bias) {
    g.epilogue.row_bias = args.row_bias.as<float>();
    g.epilogue.row_bias_stride = args.row_bias.stride(0);
    g.epilogue.row_bias_period = args.row_bias.dim(0);
  }
  if (args.pre_activation) {
    g.epilogue.pre_activation = args.pre_activation.as<float>();
    g.epilogue.pre_activation_stride = args.pre_activation.stride(0);
  }
  g.epilogue.activation = args.activation;
  g.epilogue.quantum = args.quantum;
  gemm(ctx, g);
}

void linear_backward_input(const ExecutionContext& ctx, const LinearBackwardInputArgs& args) {
  if (each_layer(ctx, args, args.dy, linear_backward_input)) {
    return;
  }
  if (args.dy.dtype() == DType::kBF16) {
    return in_float32(ctx, args, linear_backward_input, [](Widened& f32, auto& a) {
      f32.input(a.dy);
      f32.input(a.kernel);
      f32.input(a.saved);
      a.accumulate ? f32.in_place(a.dx) : f32.output(a.dx);
    });
  }
  GemmArgs g{.m = args.dy.dim(0),
             .n = args.kernel.dim(0),
             .k = args.dy.dim(1),
             .a = operand(args.dy),
             .b = operand(args.kernel, true),
             .c = args.dx.as<float>(),
             .c_stride = args.dx.stride(0),
             .accumulate = args.accumulate};
  if (args.input_activation != Activation::kNone) {
    g.epilogue.gate = args.input_activation;
    g.epilogue.saved = args.saved.as<float>();
    g.epilogue.saved_stride = args.saved.stride(0);
    g.epilogue.quantum = args.quantum;
  }
  gemm(ctx, g);
}

void linear_backward_kernel(const ExecutionContext& ctx, const LinearBackwardKernelArgs& args) {
  if (each_layer(ctx, args, args.x, linear_backward_kernel)) {
    return;
  }
  if (args.x.dtype() == DType::kBF16) {
    return in_float32(ctx, args, linear_backward_kernel, [](Widened& f32, auto& a) {
      f32.input(a.x);
      f32.input(a.dy);
    });
  }
  gemm(ctx, {.m = args.x.dim(1),
             .n = args.dy.dim(1),
             .k = args.x.dim(0),
             .a = operand(args.x, true),
             .b = operand(args.dy),
             .c = args.dkernel.as<float>(),
             .c_stride = args.dkernel.stride(0),
             .accumulate = true,
             .b_column_sum = args.dbias ? args.dbias.as<float>() : nullptr});
}

}  // namespace stemfabric::cpu
