#include "kernels/standardize/standardize.h"

#include "kernels/common/dispatch.h"
#include "kernels/common/element.h"
#include "kernels/standardize/standardize_cpu.h"
#include "kernels/standardize/standardize_cuda.h"

namespace stemfabric {

void standardize(const ExecutionContext& ctx, const StandardizeArgs& args) {
  constexpr const char* kOp = "standardize";
  check_tensor(kOp, "x", args.x, DType::kF32, {-1, -1});
  const int64_t rows = args.x.dim(0);
  const int64_t columns = args.x.dim(1);
  check_tensor(kOp, "mean", args.mean, DType::kF32, {columns});
  check_tensor(kOp, "scale", args.scale, DType::kF32, {columns});
  check_tensor(kOp, "y", args.y, activation_dtype(args.y), {rows, columns});
  SF_CHECK(args.x.contiguous() && args.y.contiguous() && args.mean.contiguous() &&
               args.scale.contiguous(),
           "standardize: all tensors must be contiguous");
  SF_DISPATCH(ctx, standardize, args);
}

}  // namespace stemfabric
