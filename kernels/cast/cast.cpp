#include "kernels/cast/cast.h"

#include "kernels/cast/cast_cpu.h"
#include "kernels/cast/cast_cuda.h"
#include "kernels/common/dispatch.h"

namespace stemfabric {

void cast(const ExecutionContext& ctx, const CastArgs& args) {
  SF_CHECK(args.x && args.y, "cast: {} is missing", args.x ? "y" : "x");
  const DType from = args.x.dtype();
  SF_CHECK(from == DType::kF32 || from == DType::kBF16, "cast: x is {}; expected f32 or bf16",
           dtype_name(from));
  const DType to = from == DType::kF32 ? DType::kBF16 : DType::kF32;
  SF_CHECK(args.y.dtype() == to && args.y.shape() == args.x.shape(),
           "cast: y has shape {} {}; expected {} {}", args.y.shape().to_string(),
           dtype_name(args.y.dtype()), args.x.shape().to_string(), dtype_name(to));
  SF_CHECK(args.x.contiguous() && args.y.contiguous(), "cast: x and y must be contiguous");
  SF_DISPATCH(ctx, cast, args);
}

}  // namespace stemfabric
