// CPU implementation of step_control.h; arguments are validated.
#pragma once

#include "kernels/step_control/step_control.h"

namespace stemfabric::cpu {

void step_control(const ExecutionContext& ctx, const StepControlArgs& args);

}  // namespace stemfabric::cpu
