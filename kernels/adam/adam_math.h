// What Adam does to one element, and the numbers that are the same for all of them; shared by CPU
// and CUDA.
#pragma once

#include <cmath>

#include "kernels/adam/adam.h"
#include "kernels/common/philox.h"  // SF_HOST_DEVICE

namespace stemfabric {

// Everything that does not depend on the element, formed in float64 and rounded once:
//   w −= decay · w,   w −= rate · m / (√v · root_scale + epsilon)
struct AdamCoefficients {
  float grad_scale, l2, one_minus_beta1, one_minus_beta2, decay, rate, root_scale, epsilon;
};

// The settings of AdamArgs, and what a step has of its own.
struct AdamRule {
  double one_minus_beta1, one_minus_beta2, epsilon, weight_decay;
  bool decoupled, keras;
};
struct AdamScalars {
  double grad_scale, lr, correction1, correction2;  // correction = 1 − βᵗ
};

inline AdamRule adam_rule(const AdamArgs& args) {
  return {.one_minus_beta1 = 1 - args.beta1,
          .one_minus_beta2 = 1 - args.beta2,
          .epsilon = args.epsilon,
          .weight_decay = args.weight_decay,
          .decoupled = args.decoupled,
          .keras = args.form == AdamForm::kKeras};
}
inline AdamScalars adam_scalars(const AdamArgs& args) {
  return {.grad_scale = args.grad_scale,
          .lr = args.lr,
          .correction1 = 1 - std::pow(args.beta1, static_cast<double>(args.step)),
          .correction2 = 1 - std::pow(args.beta2, static_cast<double>(args.step))};
}

// With those of `scalars` that lie in the tensors AdamArgs::gate and AdamArgs::scalars taken from
// there (null: absent).
SF_HOST_DEVICE inline AdamScalars with_tensors(AdamScalars s, const double* gate,
                                               const double* scalars) {
  if (gate != nullptr) {
    s.grad_scale = gate[0];
  }
  if (scalars != nullptr) {
    s.lr = scalars[0];
    s.correction1 = scalars[1];
    s.correction2 = scalars[2];
  }
  return s;
}
SF_HOST_DEVICE inline bool gate_open(const double* gate) { return gate == nullptr || gate[1] != 0; }

SF_HOST_DEVICE inline AdamCoefficients adam_coefficients(const AdamRule& rule,
                                                         const AdamScalars& s) {
  return {
      .grad_scale = static_cast<float>(s.grad_scale),
      .l2 = static_cast<float>(rule.decoupled ? 0.0 : rule.weight_decay),
      .one_minus_beta1 = static_cast<float>(rule.one_minus_beta1),
      .one_minus_beta2 = static_cast<float>(rule.one_minus_beta2),
      .decay = static_cast<float>(rule.decoupled ? s.lr * rule.weight_decay : 0.0),
      .rate = static_cast<float>(s.lr / s.correction1 * (rule.keras ? sqrt(s.correction2) : 1.0)),
      .root_scale = static_cast<float>(rule.keras ? 1.0 : 1 / sqrt(s.correction2)),
      .epsilon = static_cast<float>(rule.epsilon),
  };
}

}  // namespace stemfabric
