// A plain loop: it runs at the speed of memory, and compilers vectorise it.
#include "kernels/standardize/standardize_cpu.h"

#include "kernels/common/parallel_for.h"
#include "kernels/common/widened.h"

namespace stemfabric::cpu {

void standardize(const ExecutionContext& ctx, const StandardizeArgs& args) {
  if (args.y.dtype() == DType::kBF16) {
    return in_float32(ctx, args, standardize, [](Widened& f32, auto& a) { f32.output(a.y); });
  }
  constexpr int64_t kRowsPerTask = 64;
  const int64_t columns = args.x.dim(1);
  const auto* x = args.x.as<float>();
  const auto* mean = args.mean.as<float>();
  const auto* scale = args.scale.as<float>();
  auto* y = args.y.as<float>();
  parallel_for(ctx, args.x.dim(0), kRowsPerTask, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = x + row * columns;
      float* to = y + row * columns;
      for (int64_t c = 0; c < columns; ++c) {
        to[c] = (from[c] - mean[c]) * scale[c];
      }
    }
  });
}

}  // namespace stemfabric::cpu
