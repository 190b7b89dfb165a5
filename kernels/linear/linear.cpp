#include "kernels/linear/linear.h"

#include "kernels/common/dispatch.h"
#include "kernels/common/element.h"
#include "kernels/linear/linear_cpu.h"
#include "kernels/linear/linear_cuda.h"
#include "kernels/linear/linear_layers.h"

namespace stemfabric {
namespace {

// Rows may be strided; elements of a row may not.
void check_matrix(const char* op, const char* name, const ConstTensorView& view, DType dtype,
                  int64_t rows, int64_t columns) {
  check_tensor(op, name, view, dtype, {rows, columns});
  const bool rows_fit = rows <= 1 || columns == 0 || view.stride(0) >= columns;
  if ((columns > 1 && view.stride(1) != 1) || !rows_fit) {
    throw InternalError("{}: {} has strides ({}, {}); its rows must be contiguous and not overlap",
                        op, name, view.stride(0), view.stride(1));
  }
}

void check_optional_vector(const char* op, const char* name, const ConstTensorView& view,
                           DType dtype, int64_t size) {
  if (view) {
    check_tensor(op, name, view, dtype, {size});
    SF_CHECK(view.contiguous(), "{}: {} must be contiguous", op, name);
  }
}

void check_relu_mask(const char* op, const ConstTensorView& mask, Activation activation,
                     int64_t rows, int64_t columns) {
  if (mask) {
    SF_CHECK(activation == Activation::kRelu, "{}: a relu_mask without ReLU", op);
    check_tensor(op, "relu_mask", mask, DType::kU8, {rows, relu_mask_bytes(columns)});
    SF_CHECK(mask.contiguous() && reinterpret_cast<std::uintptr_t>(mask.data()) % 16 == 0,
             "{}: relu_mask must be contiguous, and begin at a multiple of 16 bytes", op);
  }
}

// The element type of a result, given that of the factors: bf16 only where they are.
DType result_dtype(const ConstTensorView& result, DType factors) {
  return factors == DType::kBF16 ? activation_dtype(result) : DType::kF32;
}

// Calls check(args) with the one layer, or, if both factors say so (the first of `others` is the
// second), with the first of several, whose tensors have to agree on how many there are.
template <typename Args, typename Check>
void check_layers(const char* op, const Args& args, const ConstTensorView& factor,
                  std::initializer_list<ConstTensorView> others, Check&& check) {
  if (factor.rank() != 3 || others.begin()->rank() != 3) {
    check(args);
    return;
  }
  for (const ConstTensorView& other : others) {
    SF_CHECK(!other || (other.rank() >= 2 && other.dim(0) == factor.dim(0)),
             "{}: a tensor of shape {} beside {} layers", op, other.shape().to_string(),
             factor.dim(0));
  }
  if (factor.dim(0) > 0) {
    check(layer_of(args, 0));
  }
}

void check_forward(const char* op, const LinearForwardArgs& args) {
  const DType dtype = activation_dtype(args.x);
  check_tensor(op, "x", args.x, dtype, {-1, -1});
  check_tensor(op, "kernel", args.kernel, dtype, {args.x.dim(1), -1});
  const int64_t m = args.x.dim(0);
  const int64_t k = args.x.dim(1);
  const int64_t n = args.kernel.dim(1);
  const DType result = result_dtype(args.y, dtype);
  check_matrix(op, "x", args.x, dtype, m, k);
  check_matrix(op, "kernel", args.kernel, dtype, k, n);
  check_matrix(op, "y", args.y, result, m, n);
  check_optional_vector(op, "bias", args.bias, result, n);
  if (args.row_bias) {
    check_matrix(op, "row_bias", args.row_bias, result, args.row_bias.dim(0), n);
    SF_CHECK(args.row_bias.dim(0) > 0, "{}: row_bias has no rows", op);
  }
  if (args.pre_activation) {
    check_matrix(op, "pre_activation", args.pre_activation, result, m, n);
  }
  check_relu_mask(op, args.relu_mask, args.activation, m, n);
  SF_CHECK(!args.relu_mask || args.relu_mask_written != nullptr,
           "{}: relu_mask without relu_mask_written", op);
}

void check_backward_input(const char* op, const LinearBackwardInputArgs& args) {
  const DType dtype = activation_dtype(args.dy);
  check_tensor(op, "dy", args.dy, dtype, {-1, -1});
  check_tensor(op, "kernel", args.kernel, dtype, {-1, args.dy.dim(1)});
  const int64_t m = args.dy.dim(0);
  const int64_t n = args.dy.dim(1);
  const int64_t k = args.kernel.dim(0);
  const DType result = result_dtype(args.dx, dtype);
  check_matrix(op, "dy", args.dy, dtype, m, n);
  check_matrix(op, "kernel", args.kernel, dtype, k, n);
  check_matrix(op, "dx", args.dx, result, m, k);
  if (args.input_activation != Activation::kNone) {
    check_matrix(op, "saved", args.saved, result, m, k);
    SF_CHECK(!args.accumulate, "{}: input_activation does not go with accumulate", op);
  }
  check_relu_mask(op, args.relu_mask, args.input_activation, m, k);
}

void check_backward_kernel(const char* op, const LinearBackwardKernelArgs& args) {
  const DType dtype = activation_dtype(args.x);
  check_tensor(op, "x", args.x, dtype, {-1, -1});
  check_tensor(op, "dy", args.dy, dtype, {args.x.dim(0), -1});
  const int64_t m = args.x.dim(0);
  const int64_t k = args.x.dim(1);
  const int64_t n = args.dy.dim(1);
  check_matrix(op, "x", args.x, dtype, m, k);
  check_matrix(op, "dy", args.dy, dtype, m, n);
  check_matrix(op, "dkernel", args.dkernel, DType::kF32, k, n);
  check_optional_vector(op, "dbias", args.dbias, DType::kF32, n);
}

}  // namespace

void linear_forward(const ExecutionContext& ctx, const LinearForwardArgs& args) {
  constexpr const char* kOp = "linear_forward";
  SF_CHECK(!args.relu_mask || args.x.rank() == 2, "{}: a relu_mask of several layers", kOp);
  check_layers(kOp, args, args.x,
               {args.kernel, args.bias, args.row_bias, args.y, args.pre_activation},
               [&](const LinearForwardArgs& one) { check_forward(kOp, one); });
  SF_DISPATCH(ctx, linear_forward, args);
}

void linear_backward_input(const ExecutionContext& ctx, const LinearBackwardInputArgs& args) {
  constexpr const char* kOp = "linear_backward_input";
  SF_CHECK(!args.relu_mask || args.dy.rank() == 2, "{}: a relu_mask of several layers", kOp);
  check_layers(kOp, args, args.dy, {args.kernel, args.dx, args.saved},
               [&](const LinearBackwardInputArgs& one) { check_backward_input(kOp, one); });
  SF_DISPATCH(ctx, linear_backward_input, args);
}

void linear_backward_kernel(const ExecutionContext& ctx, const LinearBackwardKernelArgs& args) {
  constexpr const char* kOp = "linear_backward_kernel";
  check_layers(kOp, args, args.x, {args.dy, args.dkernel, args.dbias},
               [&](const LinearBackwardKernelArgs& one) { check_backward_kernel(kOp, one); });
  SF_DISPATCH(ctx, linear_backward_kernel, args);
}

}  // namespace stemfabric
