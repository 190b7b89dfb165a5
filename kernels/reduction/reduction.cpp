#include "kernels/reduction/reduction.h"

#include "kernels/common/dispatch.h"
#include "kernels/reduction/reduction_cpu.h"

namespace stemfabric {

SumSquares sum_squares(const ExecutionContext& ctx, const ConstTensorView& x) {
  check_tensor("sum_squares", "x", x, DType::kF32, {-1});
  SF_CHECK(x.contiguous(), "sum_squares: x must be contiguous");
  require_cpu(ctx, "sum_squares");
  return cpu::sum_squares(ctx, x);
}

void column_sum(const ExecutionContext& ctx, const ColumnSumArgs& args) {
  check_tensor("column_sum", "x", args.x, DType::kF32, {-1, -1});
  check_tensor("column_sum", "out", args.out, DType::kF32, {-1, args.x.dim(1)});
  SF_CHECK(args.x.dim(1) <= 1 || args.x.stride(1) == 1,
           "column_sum: the last stride of x is {}, not 1", args.x.stride(1));
  SF_CHECK(args.out.contiguous(), "column_sum: out must be contiguous");
  SF_CHECK(args.out.dim(0) > 0 || args.x.dim(0) == 0, "column_sum: out has no rows");
  require_cpu(ctx, "column_sum");
  cpu::column_sum(ctx, args);
}

}  // namespace stemfabric
