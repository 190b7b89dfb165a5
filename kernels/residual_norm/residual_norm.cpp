#include "kernels/residual_norm/residual_norm.h"

#include "kernels/common/dispatch.h"
#include "kernels/common/element.h"
#include "kernels/residual_norm/residual_norm_cpu.h"
#include "kernels/residual_norm/residual_norm_cuda.h"

namespace stemfabric {
namespace {

// One argument: its shape, and that it is contiguous.
void check(const char* op, const char* name, const ConstTensorView& view, DType dtype,
           std::initializer_list<int64_t> shape) {
  check_tensor(op, name, view, dtype, shape);
  SF_CHECK(view.contiguous(), "{}: {} must be contiguous", op, name);
}

void check_optional(const char* op, const char* name, const ConstTensorView& view, DType dtype,
                    std::initializer_list<int64_t> shape) {
  if (view) {
    check(op, name, view, dtype, shape);
  }
}

void check_dropout(const char* op, const DropoutConfig& dropout, int64_t tokens_per_sample) {
  SF_CHECK(dropout.p >= 0 && dropout.p < 1 && dropout_threshold(dropout.p) < 65536u,
           "{}: dropout.p is {}, it must be at least 0 and below 1", op, dropout.p);
  SF_CHECK(tokens_per_sample >= 1, "{}: tokens_per_sample is {}", op, tokens_per_sample);
}

}  // namespace

void residual_norm_forward(const ExecutionContext& ctx, const ResidualNormForwardArgs& args) {
  const char* op = "residual_norm_forward";
  const DType dtype = activation_dtype(args.residual);
  check(op, "residual", args.residual, dtype, {-1, -1});
  const int64_t m = args.residual.dim(0);
  const int64_t c = args.residual.dim(1);
  SF_CHECK(c >= 1, "{}: residual has no channels", op);
  check_optional(op, "x", args.x, dtype, {m, c});
  check(op, "sum", args.sum, dtype, {m, c});
  if (args.y) {
    check(op, "y", args.y, dtype, {m, c});
    check(op, "gamma", args.gamma, DType::kF32, {c});
    check(op, "beta", args.beta, DType::kF32, {c});
    check_optional(op, "mean", args.mean, DType::kF32, {m});
    check_optional(op, "rstd", args.rstd, DType::kF32, {m});
    SF_CHECK(static_cast<bool>(args.mean) == static_cast<bool>(args.rstd),
             "{}: mean and rstd must be both there or both absent", op);
    SF_CHECK(args.epsilon >= 0, "{}: epsilon is {}", op, args.epsilon);
  }
  check_dropout(op, args.dropout, args.tokens_per_sample);
  SF_DISPATCH(ctx, residual_norm_forward, args);
}

void residual_norm_backward(const ExecutionContext& ctx, const ResidualNormBackwardArgs& args) {
  const char* op = "residual_norm_backward";
  const DType dtype = activation_dtype(args.dresidual);
  check(op, "dresidual", args.dresidual, dtype, {-1, -1});
  const int64_t m = args.dresidual.dim(0);
  const int64_t c = args.dresidual.dim(1);
  SF_CHECK(c >= 1, "{}: dresidual has no channels", op);
  SF_CHECK(args.dy || args.dsum, "{}: dy and dsum are both missing", op);
  check_optional(op, "dsum", args.dsum, dtype, {m, c});
  check_optional(op, "dx", args.dx, dtype, {m, c});
  if (args.dy) {
    check(op, "dy", args.dy, dtype, {m, c});
    check(op, "sum", args.sum, dtype, {m, c});
    check(op, "mean", args.mean, DType::kF32, {m});
    check(op, "rstd", args.rstd, DType::kF32, {m});
    check(op, "gamma", args.gamma, DType::kF32, {c});
    check(op, "dgamma", args.dgamma, DType::kF32, {c});
    check(op, "dbeta", args.dbeta, DType::kF32, {c});
  }
  check_dropout(op, args.dropout, args.tokens_per_sample);
  SF_DISPATCH(ctx, residual_norm_backward, args);
}

}  // namespace stemfabric
