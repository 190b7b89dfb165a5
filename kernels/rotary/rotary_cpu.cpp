// One task turns a few positions of all batch entries and heads. The angles of its first position
// come from libm in float64; each further position turns by one more step, also in float64, so
// that no error of t · frequency in float32 enters however long the sequence is.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rotary/rotary_cpu.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <cmath>

#include "kernels/common/parallel_for.h"
#include "kernels/common/simd-inl.h"
#include "kernels/common/widened.h"
#include "kernels/rotary/rotary_cpu.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::cpu::HWY_NAMESPACE {
using namespace stemfabric::HWY_NAMESPACE;  // for_lanes

// (low[i], high[i]) turned by the angle with these cosines and sines.
void turn_pairs(float* low, float* high, const float* cosine, const float* sine, int64_t pairs) {
  for_lanes(pairs, [&](auto d, int64_t i) HWY_ATTR {
    const auto c = hn::LoadU(d, cosine + i);
    const auto s = hn::LoadU(d, sine + i);
    const auto x = hn::LoadU(d, low + i);
    const auto y = hn::LoadU(d, high + i);
    hn::StoreU(hn::NegMulAdd(y, s, hn::Mul(x, c)), d, low + i);
    hn::StoreU(hn::MulAdd(x, s, hn::Mul(y, c)), d, high + i);
  });
}

}  // namespace stemfabric::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric::cpu {
namespace {

HWY_EXPORT(turn_pairs);

constexpr int64_t kPositions = 8;  // of a task

// What one position further turns every pair by.
struct Steps {
  double *angle, *cosine, *sine;

  static int64_t doubles(int64_t pairs) { return 3 * pairs; }
  Steps(double* memory, const RotaryArgs& args, int64_t pairs)
      : angle(memory), cosine(memory + pairs), sine(memory + 2 * pairs) {
    for (int64_t i = 0; i < pairs; ++i) {
      const double frequency =
          std::pow(args.base, -static_cast<double>(i) / static_cast<double>(pairs));
      angle[i] = args.inverse ? -frequency : frequency;
      cosine[i] = std::cos(angle[i]);
      sine[i] = std::sin(angle[i]);
    }
  }
};

// Cosines and sines of a position, in float64 and rounded.
struct Angles {
  double *cosine, *sine;
  float *cosine32, *sine32;
  const Steps& step;
  int64_t pairs;

  static int64_t doubles(int64_t pairs) { return 3 * pairs; }
  Angles(double* memory, const Steps& steps, int64_t count, int64_t position)
      : cosine(memory),
        sine(memory + count),
        cosine32(reinterpret_cast<float*>(memory + 2 * count)),
        sine32(cosine32 + count),
        step(steps),
        pairs(count) {
    for (int64_t i = 0; i < pairs; ++i) {
      cosine[i] = std::cos(static_cast<double>(position) * step.angle[i]);
      sine[i] = std::sin(static_cast<double>(position) * step.angle[i]);
    }
    round();
  }
  void advance() {
    for (int64_t i = 0; i < pairs; ++i) {
      const double c = cosine[i] * step.cosine[i] - sine[i] * step.sine[i];
      sine[i] = cosine[i] * step.sine[i] + sine[i] * step.cosine[i];
      cosine[i] = c;
    }
    round();
  }

 private:
  void round() const {
    for (int64_t i = 0; i < pairs; ++i) {
      cosine32[i] = static_cast<float>(cosine[i]);
      sine32[i] = static_cast<float>(sine[i]);
    }
  }
};

}  // namespace

void rotary(const ExecutionContext& ctx, const RotaryArgs& args) {
  if (args.x.dtype() == DType::kBF16) {
    return in_float32(ctx, args, rotary, [](Widened& f32, auto& a) { f32.in_place(a.x); });
  }
  const TensorView& x = args.x;
  const int64_t tokens = x.dim(1);
  const int64_t pairs = x.dim(3) / 2;
  if (x.elements() == 0) {
    return;
  }
  const int64_t tasks = (tokens + kPositions - 1) / kPositions;
  const int64_t scratch = Angles::doubles(pairs);
  WorkspaceScope scope(ctx.workspace());
  const Steps steps(scope.take<double>(Steps::doubles(pairs)), args, pairs);
  auto* memory = scope.take<double>(scratch * scratch_slots(ctx, tasks));
  const auto turn = HWY_DYNAMIC_DISPATCH(turn_pairs);
  parallel_tasks(ctx, tasks, [&](int64_t task, int64_t slot) {
    Angles angles(memory + slot * scratch, steps, pairs, task * kPositions);
    const int64_t end = std::min(tokens, (task + 1) * kPositions);
    for (int64_t t = task * kPositions; t < end; ++t) {
      for (int64_t b = 0; b < x.dim(0); ++b) {
        for (int64_t h = 0; h < x.dim(2); ++h) {
          float* row = x.as<float>() + b * x.stride(0) + t * x.stride(1) + h * x.stride(2);
          turn(row, row + pairs, angles.cosine32, angles.sine32, pairs);
        }
      }
      angles.advance();
    }
  });
}

}  // namespace stemfabric::cpu
#endif
