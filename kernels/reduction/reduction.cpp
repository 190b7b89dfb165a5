#include "kernels/reduction/reduction.h"

#include "kernels/common/dispatch.h"
#include "kernels/common/element.h"
#include "kernels/reduction/column_sum_cuda.h"
#include "kernels/reduction/reduction_cpu.h"
#include "kernels/reduction/sum_squares_cuda.h"

namespace stemfabric {

SumSquares sum_squares_of(const double (&result)[3]) {
  return {.sum = result[0],
          .non_finite = static_cast<int64_t>(result[1]),
          .first_non_finite = static_cast<int64_t>(result[2])};
}

void sum_squares_into(const ExecutionContext& ctx, const SumSquaresArgs& args) {
  constexpr const char* kOp = "sum_squares";
  check_tensor(kOp, "x", args.x, DType::kF32, {-1});
  check_tensor(kOp, "result", args.result, DType::kF64, {3});
  SF_CHECK(args.x.contiguous() && args.result.contiguous(), "{}: x and result must be contiguous",
           kOp);
  SF_DISPATCH(ctx, sum_squares_into, args);
}

SumSquares sum_squares(const ExecutionContext& ctx, const ConstTensorView& x) {
  WorkspaceScope scope(ctx.workspace());
  auto* there = scope.take<double>(3);
  sum_squares_into(ctx, {.x = x, .result = {there, Shape{3}}});
  double result[3];
  ctx.stream().copy(result, there, sizeof result);
  ctx.stream().synchronize();
  return sum_squares_of(result);
}

void column_sum(const ExecutionContext& ctx, const ColumnSumArgs& args) {
  check_tensor("column_sum", "x", args.x, activation_dtype(args.x), {-1, -1});
  check_tensor("column_sum", "out", args.out, DType::kF32, {-1, args.x.dim(1)});
  SF_CHECK(args.x.dim(1) <= 1 || args.x.stride(1) == 1,
           "column_sum: the last stride of x is {}, not 1", args.x.stride(1));
  SF_CHECK(args.out.contiguous(), "column_sum: out must be contiguous");
  SF_CHECK(args.out.dim(0) > 0 || args.x.dim(0) == 0, "column_sum: out has no rows");
  SF_DISPATCH(ctx, column_sum, args);
}

}  // namespace stemfabric
