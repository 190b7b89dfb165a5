#include "kernels/adam/adam_cpu.h"

#include "kernels/adam/adam_math.h"
#include "kernels/common/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adam/adam_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/common/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

// The moments move by (1−β)·(new − old): with a rounded β and a rounded 1−β, β·old + (1−β)·new
// would settle beside the average (1.3e-5 off for β = 0.999 in float32).
void adam_block(const AdamCoefficients& c, const float* HWY_RESTRICT gradient,
                float* HWY_RESTRICT m, float* HWY_RESTRICT v, float* HWY_RESTRICT parameter,
                int64_t n) {
  for_lanes(n, [&](auto d, int64_t i) HWY_ATTR {
    auto w = hn::LoadU(d, parameter + i);
    auto g = hn::Mul(hn::Set(d, c.grad_scale), hn::LoadU(d, gradient + i));
    g = hn::MulAdd(hn::Set(d, c.l2), w, g);
    const auto old_m = hn::LoadU(d, m + i);
    const auto old_v = hn::LoadU(d, v + i);
    const auto new_m = hn::MulAdd(hn::Set(d, c.one_minus_beta1), hn::Sub(g, old_m), old_m);
    const auto new_v =
        hn::MulAdd(hn::Set(d, c.one_minus_beta2), hn::Sub(hn::Mul(g, g), old_v), old_v);
    w = hn::NegMulAdd(hn::Set(d, c.decay), w, w);
    const auto below = hn::MulAdd(hn::Sqrt(new_v), hn::Set(d, c.root_scale), hn::Set(d, c.epsilon));
    w = hn::NegMulAdd(hn::Set(d, c.rate), hn::Div(new_m, below), w);
    hn::StoreU(new_m, d, m + i);
    hn::StoreU(new_v, d, v + i);
    hn::StoreU(w, d, parameter + i);
  });
}

void ema_block(float one_minus_momentum, const float* HWY_RESTRICT parameter,
               float* HWY_RESTRICT average, int64_t n) {
  for_lanes(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto old = hn::LoadU(d, average + i);
    const auto step = hn::Sub(hn::LoadU(d, parameter + i), old);
    hn::StoreU(hn::MulAdd(hn::Set(d, one_minus_momentum), step, old), d, average + i);
  });
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(adam_block);
HWY_EXPORT(ema_block);
}  // namespace stemfabric

namespace stemfabric::cpu {
namespace {

constexpr int64_t kBlock = 16384;  // elements of one task

const double* data_of(const ConstTensorView& view) { return view ? view.as<double>() : nullptr; }

}  // namespace

void adam_step(const ExecutionContext& ctx, const AdamArgs& args) {
  const double* gate = data_of(args.gate);
  if (!gate_open(gate)) {
    return;
  }
  const AdamCoefficients c = adam_coefficients(
      adam_rule(args), with_tensors(adam_scalars(args), gate, data_of(args.scalars)));
  const auto* gradient = args.gradient.as<float>();
  auto* m = args.m.as<float>();
  auto* v = args.v.as<float>();
  auto* parameter = args.parameter.as<float>();
  parallel_for(ctx, args.parameter.elements(), kBlock, [&](int64_t begin, int64_t end, int64_t) {
    HWY_DYNAMIC_DISPATCH(adam_block)
    (c, gradient + begin, m + begin, v + begin, parameter + begin, end - begin);
  });
}

void ema_update(const ExecutionContext& ctx, const EmaArgs& args) {
  if (!gate_open(data_of(args.gate))) {
    return;
  }
  const auto one_minus_momentum = static_cast<float>(1 - args.momentum);
  const auto* parameter = args.parameter.as<float>();
  auto* average = args.average.as<float>();
  parallel_for(ctx, args.average.elements(), kBlock, [&](int64_t begin, int64_t end, int64_t) {
    HWY_DYNAMIC_DISPATCH(ema_block)
    (one_minus_momentum, parameter + begin, average + begin, end - begin);
  });
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
