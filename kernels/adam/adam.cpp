#include "kernels/adam/adam.h"

#include <cmath>

#include "kernels/adam/adam_cpu.h"
#include "kernels/adam/adam_cuda.h"
#include "kernels/common/dispatch.h"

namespace stemfabric {
namespace {

// An optional tensor of three float64.
void check_three(const char* op, const char* name, const ConstTensorView& view) {
  if (view) {
    check_tensor(op, name, view, DType::kF64, {3});
    SF_CHECK(view.contiguous(), "{}: {} must be contiguous", op, name);
  }
}

}  // namespace

void adam_step(const ExecutionContext& ctx, const AdamArgs& args) {
  const char* op = "adam_step";
  check_tensor(op, "parameter", args.parameter, DType::kF32, {-1});
  const int64_t n = args.parameter.dim(0);
  check_tensor(op, "gradient", args.gradient, DType::kF32, {n});
  check_tensor(op, "m", args.m, DType::kF32, {n});
  check_tensor(op, "v", args.v, DType::kF32, {n});
  for (const ConstTensorView& view : {ConstTensorView(args.parameter), args.gradient,
                                      ConstTensorView(args.m), ConstTensorView(args.v)}) {
    SF_CHECK(view.contiguous(), "{}: parameter, gradient, m and v must be contiguous", op);
  }
  SF_CHECK(args.step >= 1, "{}: step is {}, it counts from 1", op, args.step);
  SF_CHECK(args.beta1 >= 0 && args.beta1 < 1, "{}: beta1 is {}", op, args.beta1);
  SF_CHECK(args.beta2 >= 0 && args.beta2 < 1, "{}: beta2 is {}", op, args.beta2);
  SF_CHECK(std::isfinite(args.lr) && std::isfinite(args.weight_decay) && args.epsilon >= 0,
           "{}: lr {}, weight_decay {}, epsilon {}", op, args.lr, args.weight_decay, args.epsilon);
  check_three(op, "gate", args.gate);
  check_three(op, "scalars", args.scalars);
  SF_CHECK(!args.gate || args.grad_scale == 1, "{}: grad_scale is {}, but the gate gives it", op,
           args.grad_scale);
  SF_DISPATCH(ctx, adam_step, args);
}

void ema_update(const ExecutionContext& ctx, const EmaArgs& args) {
  const char* op = "ema_update";
  check_tensor(op, "average", args.average, DType::kF32, {-1});
  check_tensor(op, "parameter", args.parameter, DType::kF32, {args.average.dim(0)});
  SF_CHECK(args.average.contiguous() && args.parameter.contiguous(),
           "{}: average and parameter must be contiguous", op);
  SF_CHECK(args.momentum >= 0 && args.momentum <= 1, "{}: momentum is {}", op, args.momentum);
  check_three(op, "gate", args.gate);
  SF_DISPATCH(ctx, ema_update, args);
}

}  // namespace stemfabric
