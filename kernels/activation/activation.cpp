#include "kernels/activation/activation.h"

#include "kernels/activation/activation_cpu.h"
#include "kernels/activation/activation_cuda.h"
#include "kernels/common/dispatch.h"
#include "kernels/common/element.h"

namespace stemfabric {
namespace {

void check_equal(const char* op, const char* name, const ConstTensorView& view, DType dtype,
                 const Shape& shape) {
  SF_CHECK(view, "{}: {} is missing", op, name);
  SF_CHECK(view.dtype() == dtype && view.shape() == shape && view.contiguous(),
           "{}: {} has shape {} {}; expected {} {}, contiguous", op, name, view.shape().to_string(),
           dtype_name(view.dtype()), shape.to_string(), dtype_name(dtype));
}

}  // namespace

void activation_forward(const ExecutionContext& ctx, const ActivationForwardArgs& args) {
  const char* op = "activation_forward";
  const DType dtype = activation_dtype(args.x);
  check_equal(op, "x", args.x, dtype, args.x.shape());
  check_equal(op, "y", args.y, dtype, args.x.shape());
  SF_DISPATCH(ctx, activation_forward, args);
}

void activation_backward(const ExecutionContext& ctx, const ActivationBackwardArgs& args) {
  const char* op = "activation_backward";
  const DType dtype = activation_dtype(args.x);
  check_equal(op, "x", args.x, dtype, args.x.shape());
  check_equal(op, "dy", args.dy, dtype, args.x.shape());
  check_equal(op, "dx", args.dx, dtype, args.x.shape());
  SF_DISPATCH(ctx, activation_backward, args);
}

}  // namespace stemfabric
