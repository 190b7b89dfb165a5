// The formulas of step_control.h but for the search for losses that are not finite.
#pragma once

#include <cmath>

#include "kernels/common/philox.h"  // SF_HOST_DEVICE
#include "kernels/step_control/step_control.h"

namespace stemfabric {

// The arguments as pointers; null where absent.
struct StepControlPointers {
  const double *squares, *loss, *weighted;
  int64_t losses, weights;  // elements of loss and of weighted
  double clip;
  double* gate;
  const double* lr;
  double beta1, beta2;
  double *steps, *scalars;
};

inline StepControlPointers step_control_pointers(const StepControlArgs& args) {
  const auto data = [](const auto& view) { return view ? view.template as<double>() : nullptr; };
  return {.squares = data(args.squares),
          .loss = data(args.loss),
          .weighted = data(args.weighted),
          .losses = args.loss ? args.loss.elements() : 0,
          .weights = args.weighted ? args.weighted.elements() : 0,
          .clip = args.clip,
          .gate = data(args.gate),
          .lr = data(args.lr),
          .beta1 = args.beta1,
          .beta2 = args.beta2,
          .steps = data(args.steps),
          .scalars = data(args.scalars)};
}

SF_HOST_DEVICE inline bool is_finite(double x) { return x - x == 0; }

SF_HOST_DEVICE inline void control_step(const StepControlPointers& p, bool losses_finite) {
  const bool finite = p.squares[1] == 0;
  const bool apply = finite && losses_finite;
  const double norm = finite ? sqrt(p.squares[0]) : static_cast<double>(NAN);
  p.gate[0] = p.clip > 0 && norm > p.clip ? p.clip / norm : 1.0;
  p.gate[1] = apply ? 1.0 : 0.0;
  p.gate[2] = norm;
  if (p.steps == nullptr) {
    return;
  }
  const double t = *p.steps + (apply ? 1.0 : 0.0);
  *p.steps = t;
  p.scalars[0] = *p.lr;
  p.scalars[1] = 1 - pow(p.beta1, t);
  p.scalars[2] = 1 - pow(p.beta2, t);
}

}  // namespace stemfabric
