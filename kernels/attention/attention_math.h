// The scalar formulas of superposition attention, shared by the CPU and CUDA implementations.
//
// With A the softmax weight of a key, every activation is
//   G = c0 + R(A),   R(a) = Σ_{r=1..9} c_r aʳ,   c0 = b + w,   c_r = h_r + w x_r,   w = γ / z2
// where h(a) = Σ h_r aʳ is what sigmoid and tanh add to their value at 0, exp(a) - 1 = Σ x_r aʳ,
// and z2 = Σ_keys exp(A). R(0) = 0, so a masked key needs no test. Source: docs/attention.md.
#pragma once

#include "kernels/attention/attention.h"

namespace stemfabric {

inline constexpr int kAttentionDegree = 9;

// Fits on [0, 1] that are zero at 0 and minimise the largest error of the derivative; value and
// slope are then good to float32 (errors in docs/attention.md). Coefficient r belongs to a^(r+1).
inline constexpr double kSigmoidMinusHalf[kAttentionDegree] = {
    0.24999999958528263,     3.3753005254476745e-08, -0.020833936069588683,
    4.656863174977675e-06,   0.0020641541047834583,  4.597539168543253e-05,
    -0.00027655498107038106, 5.3940529620876996e-05, 3.0945305200025047e-07};
inline constexpr double kTanh[kAttentionDegree] = {
    1.0000000911265008,    9.745548573438704e-07, -0.33341782658603175,
    0.0011282144032591142, 0.12643299384817608,   0.023497189895468357,
    -0.10139047671766856,  0.055788906326189505,  -0.010445910427199683};
inline constexpr double kExpMinusOne[kAttentionDegree] = {
    1.0000000000349027,     0.49999999720355925,    0.1666667158221772,
    0.04166629289961105,    0.008334848188480985,   0.0013853120241677829,
    0.00020347471839698755, 2.0609308743193997e-05, 4.578259001048965e-06};

// exp2(f) on [-1/2, 1/2], exact at 0, relative error 2.6e-9.
inline constexpr int kExp2Degree = 6;
inline constexpr float kExp2[kExp2Degree + 1] = {1.0f,
                                                 0.6931472067028321f,
                                                 0.24022650922288827f,
                                                 0.05550327226670944f,
                                                 0.00961805667852609f,
                                                 0.0013400428177419153f,
                                                 0.0001546144469646172f};

// The same fits of degree 4, for bf16 on tensor cores: at most 5.5e-4 away from h of the default
// coefficients, relative to it, a third of what rounding to bf16 costs.
inline constexpr int kMomentDegree = 4;
inline constexpr double kSigmoidMinusHalf4[kMomentDegree] = {
    0.24995622951608454, 0.0007784067024018644, -0.02374663813444571, 0.004073758560003813};
inline constexpr double kTanh4[kMomentDegree] = {1.000831889702959, 0.0022836445569534066,
                                                 -0.38162158754487063, 0.14007757956730624};
inline constexpr double kExpMinusOne4[kMomentDegree] = {0.9994552084334071, 0.5083011632333058,
                                                        0.14056767091821332, 0.06999412230944842};

// What the configuration contributes, the same for every row.
template <int kDegree>
struct PolynomialCoefficients {
  float b = 0.0f;           // G of a key with A = 0, without its inner-softmax part
  float gamma = 0.0f;       // weight of the inner softmax
  float h[kDegree] = {};    // h(a) = Σ h[r] a^(r+1)
  float x[kDegree] = {};    // exp(a) - 1 = Σ x[r] a^(r+1)
  bool polynomial = true;   // false: plain softmax, G = A
  bool normalized = false;  // divide G by its row sum
};

template <int kDegree>
PolynomialCoefficients<kDegree> polynomial_coefficients(const AttentionConfig& config,
                                                        const double (&sigmoid)[kDegree],
                                                        const double (&tanh)[kDegree],
                                                        const double (&exp)[kDegree]) {
  PolynomialCoefficients<kDegree> out;
  if (config.activation == AttentionActivation::kSoftmax) {
    out.h[0] = 1.0f;
    out.polynomial = false;
    return out;
  }
  const bool centered = config.activation == AttentionActivation::kSuperpositionCentered;
  const double alpha = config.alpha * (centered ? 2.0 : 1.0);
  out.b = centered ? 0.0f : 0.5f * config.alpha;
  out.gamma = config.gamma;
  out.normalized = config.activation == AttentionActivation::kSuperpositionNormalized;
  for (int r = 0; r < kDegree; ++r) {
    out.h[r] = static_cast<float>(alpha * sigmoid[r] + double{config.beta} * tanh[r]);
    out.x[r] = static_cast<float>(exp[r]);
  }
  return out;
}

using AttentionCoefficients = PolynomialCoefficients<kAttentionDegree>;
inline AttentionCoefficients attention_coefficients(const AttentionConfig& config) {
  return polynomial_coefficients(config, kSigmoidMinusHalf, kTanh, kExpMinusOne);
}
using MomentCoefficients = PolynomialCoefficients<kMomentDegree>;
inline MomentCoefficients moment_coefficients(const AttentionConfig& config) {
  return polynomial_coefficients(config, kSigmoidMinusHalf4, kTanh4, kExpMinusOne4);
}

// The four numbers of a row that the forward saves, in this order.
//   m  largest score q·k over unmasked keys, before the scale 1/√D (0 if there is none)
//   l  Σ exp((q·k − m)/√D) over unmasked keys (∞ if there is none: then every A is 0)
//   w  γ / z2 (0 for softmax)
//   g  row sum of G (1 unless normalized)
struct AttentionRowStats {
  float m, l, w, g;
};

}  // namespace stemfabric
