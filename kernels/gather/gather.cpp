#include "kernels/gather/gather.h"

#include "kernels/common/dispatch.h"
#include "kernels/gather/gather_cpu.h"
#include "kernels/gather/gather_cuda.h"

namespace stemfabric {

void gather(const ExecutionContext& ctx, const GatherArgs& args) {
  SF_CHECK(args.x && args.x.rank() >= 1, "gather: x is missing or has no rows");
  check_tensor("gather", "index", args.index, DType::kI32, {-1});
  std::vector<int64_t> sizes{args.index.dim(0)};
  for (int d = 1; d < args.x.rank(); ++d) {
    sizes.push_back(args.x.dim(d));
  }
  const Shape expected{std::span<const int64_t>(sizes)};
  SF_CHECK(args.y && args.y.dtype() == args.x.dtype() && args.y.shape() == expected,
           "gather: y has shape {} {}; expected {} {}", args.y.shape().to_string(),
           dtype_name(args.y.dtype()), expected.to_string(), dtype_name(args.x.dtype()));
  SF_CHECK(args.x.contiguous() && args.y.contiguous() && args.index.contiguous(),
           "gather: x, index and y must be contiguous");
  SF_DISPATCH(ctx, gather, args);
}

}  // namespace stemfabric
