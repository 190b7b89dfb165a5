// Plain loops: nothing on the CPU computes in bf16, so this serves tests and tools.
#include "kernels/cast/cast_cpu.h"

#include "kernels/common/parallel_for.h"
#include "runtime/core/bf16.h"

namespace stemfabric::cpu {

void cast(const ExecutionContext& ctx, const CastArgs& args) {
  constexpr int64_t kPerTask = 1 << 14;
  const bool narrow = args.x.dtype() == DType::kF32;
  parallel_for(ctx, args.x.elements(), kPerTask, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      if (narrow) {
        args.y.as<Bf16>()[i] = to_bf16(args.x.as<float>()[i]);
      } else {
        args.y.as<float>()[i] = from_bf16(args.x.as<Bf16>()[i]);
      }
    }
  });
}

}  // namespace stemfabric::cpu
