#include "kernels/gather/gather_cpu.h"

#include <cstring>

#include "kernels/common/parallel_for.h"

namespace stemfabric::cpu {

void gather(const ExecutionContext& ctx, const GatherArgs& args) {
  const int64_t rows = args.index.dim(0);
  if (args.y.elements() == 0) {
    return;
  }
  const std::size_t bytes = args.y.bytes() / static_cast<std::size_t>(rows);
  const auto* x = static_cast<const std::byte*>(args.x.data());
  auto* y = static_cast<std::byte*>(args.y.data());
  parallel_for(ctx, rows, 1, [&](int64_t i, int64_t, int64_t) {
    const int32_t row = args.index.as<int32_t>()[i];
    std::byte* to = y + static_cast<std::size_t>(i) * bytes;
    if (row >= 0 && row < args.x.dim(0)) {
      std::memcpy(to, x + static_cast<std::size_t>(row) * bytes, bytes);
    } else {
      std::memset(to, 0xFF, bytes);
    }
  });
}

}  // namespace stemfabric::cpu
