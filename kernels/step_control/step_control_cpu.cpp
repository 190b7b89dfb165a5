#include "kernels/step_control/step_control_cpu.h"

#include <algorithm>

#include "kernels/step_control/step_control_math.h"

namespace stemfabric::cpu {

void step_control(const ExecutionContext& /*ctx*/, const StepControlArgs& args) {
  const StepControlPointers p = step_control_pointers(args);
  control_step(p, std::all_of(p.loss, p.loss + p.losses, is_finite) &&
                      std::all_of(p.weighted, p.weighted + p.weights, is_finite));
}

}  // namespace stemfabric::cpu
