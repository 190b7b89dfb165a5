#include "kernels/activation/activation_cpu.h"

#include "kernels/common/parallel_for.h"
#include "kernels/common/widened.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation/activation_cpu.cpp"  // once for each target
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

#include "kernels/activation/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric {
namespace HWY_NAMESPACE {

void activate_block(Activation activation, const QuantumCoefficients& q, const float* x, float* y,
                    int64_t n) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<float>());
  for (int64_t i = 0; i < n; i += kLanes) {
    store_first(d, activate(d, activation, q, load_first(d, x + i, n - i)), y + i, n - i);
  }
}

void activate_gradient_block(Activation activation, const QuantumCoefficients& q, const float* x,
                             const float* dy, float* dx, int64_t n) {
  const hn::ScalableTag<float> d;
  constexpr int64_t kLanes = hn::MaxLanes(hn::ScalableTag<float>());
  for (int64_t i = 0; i < n; i += kLanes) {
    const auto saved = load_first(d, x + i, n - i);
    const auto gradient = load_first(d, dy + i, n - i);
    store_first(d, activation_gradient(d, activation, q, saved, gradient), dx + i, n - i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace stemfabric
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
namespace {

HWY_EXPORT(activate_block);
HWY_EXPORT(activate_gradient_block);

constexpr int64_t kBlock = 16384;  // elements of one task

}  // namespace

namespace cpu {

void activation_forward(const ExecutionContext& ctx, const ActivationForwardArgs& args) {
  if (args.x.dtype() == DType::kBF16) {
    return in_float32(ctx, args, activation_forward, [](Widened& f32, auto& a) {
      f32.input(a.x);
      f32.output(a.y);
    });
  }
  const auto* x = args.x.as<float>();
  auto* y = args.y.as<float>();
  parallel_for(ctx, args.x.elements(), kBlock, [&](int64_t begin, int64_t end, int64_t) {
    HWY_DYNAMIC_DISPATCH(activate_block)
    (args.activation, args.quantum, x + begin, y + begin, end - begin);
  });
}

void activation_backward(const ExecutionContext& ctx, const ActivationBackwardArgs& args) {
  if (args.x.dtype() == DType::kBF16) {
    return in_float32(ctx, args, activation_backward, [](Widened& f32, auto& a) {
      f32.input(a.x);
      f32.input(a.dy);
      f32.output(a.dx);
    });
  }
  const auto* x = args.x.as<float>();
  const auto* dy = args.dy.as<float>();
  auto* dx = args.dx.as<float>();
  parallel_for(ctx, args.x.elements(), kBlock, [&](int64_t begin, int64_t end, int64_t) {
    HWY_DYNAMIC_DISPATCH(activate_gradient_block)
    (args.activation, args.quantum, x + begin, dy + begin, dx + begin, end - begin);
  });
}

}  // namespace cpu
}  // namespace stemfabric
#endif  // HWY_ONCE
