#include "kernels/step_control/step_control.h"

#include "kernels/common/dispatch.h"
#include "kernels/step_control/step_control_cpu.h"
#include "kernels/step_control/step_control_cuda.h"

namespace stemfabric {

void step_control(const ExecutionContext& ctx, const StepControlArgs& args) {
  const char* op = "step_control";
  const auto check = [&](const char* name, const ConstTensorView& view, int64_t size) {
    check_tensor(op, name, view, DType::kF64, {size});
    SF_CHECK(view.contiguous(), "{}: {} must be contiguous", op, name);
  };
  check("squares", args.squares, 3);
  check("gate", args.gate, 3);
  if (args.loss) {
    check("loss", args.loss, -1);
  }
  if (args.weighted) {
    check("weighted", args.weighted, -1);
  }
  if (args.lr || args.steps || args.scalars) {
    check("lr", args.lr, 1);
    check("steps", args.steps, 1);
    check("scalars", args.scalars, 3);
  }
  SF_CHECK(args.clip >= 0, "{}: clip is {}", op, args.clip);
  SF_CHECK(args.beta1 >= 0 && args.beta1 < 1, "{}: beta1 is {}", op, args.beta1);
  SF_CHECK(args.beta2 >= 0 && args.beta2 < 1, "{}: beta2 is {}", op, args.beta2);
  SF_DISPATCH(ctx, step_control, args);
}

}  // namespace stemfabric
