#include "kernels/reduction/reduction_cpu.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/parallel_for.h"
#include "kernels/common/widened.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/reduction/reduction_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/common/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

// The rare path: `first_non_finite` counts from x.
void count_non_finite(const float* x, int64_t n, int64_t offset, SumSquares& out) {
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) {
      out.first_non_finite = out.non_finite == 0 ? offset + i : out.first_non_finite;
      ++out.non_finite;
    }
  }
}

SumSquares sum_squares_block(const float* HWY_RESTRICT x, int64_t n) {
  const DoubleTag dd;
  const HalfFloatTag df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  SumSquares out;
  auto sum0 = hn::Zero(dd);
  auto sum1 = hn::Zero(dd);
  const auto add = [&](int64_t i, auto& sum) HWY_ATTR {
    auto v = hn::LoadU(df, x + i);
    const auto finite = hn::IsFinite(v);
    if (HWY_UNLIKELY(!hn::AllTrue(df, finite))) {
      count_non_finite(x + i, lanes, i, out);
      v = hn::IfThenElseZero(finite, v);
    }
    const auto wide = hn::PromoteTo(dd, v);
    sum = hn::MulAdd(wide, wide, sum);
  };
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    add(i, sum0);
    add(i + lanes, sum1);
  }
  out.sum = hn::GetLane(hn::SumOfLanes(dd, hn::Add(sum0, sum1)));
  for (; i < n; ++i) {
    const double v = x[i];
    count_non_finite(x + i, 1, i, out);
    out.sum += std::isfinite(v) ? v * v : 0.0;
  }
  return out;
}

// sum[j] += x[r·stride + j] over `rows` rows, in float64, four rows at a time.
void add_rows(const float* HWY_RESTRICT x, int64_t rows, int64_t stride, int64_t n,
              double* HWY_RESTRICT sum) {
  const DoubleTag dd;
  const HalfFloatTag df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(df));
  for (int64_t r = 0; r < rows; r += 4) {
    const float* row = x + r * stride;
    const int64_t count = std::min<int64_t>(4, rows - r);
    int64_t j = 0;
    if (count == 4) {
      const auto at = [&](int64_t k) HWY_ATTR {
        return hn::PromoteTo(dd, hn::LoadU(df, row + k * stride + j));
      };
      for (; j + lanes <= n; j += lanes) {
        const auto four = hn::Add(hn::Add(at(0), at(1)), hn::Add(at(2), at(3)));
        hn::StoreU(hn::Add(hn::LoadU(dd, sum + j), four), dd, sum + j);
      }
    }
    for (; j < n; ++j) {
      for (int64_t k = 0; k < count; ++k) {
        sum[j] += static_cast<double>(row[k * stride + j]);
      }
    }
  }
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(sum_squares_block);
HWY_EXPORT(add_rows);
}  // namespace stemfabric

namespace stemfabric::cpu {

void sum_squares_into(const ExecutionContext& ctx, const SumSquaresArgs& args) {
  constexpr int64_t kBlock = 16384;
  const auto* data = args.x.as<float>();
  const int64_t n = args.x.elements();
  WorkspaceScope scope(ctx.workspace());
  auto* parts = scope.take<SumSquares>((n + kBlock - 1) / kBlock);
  parallel_for(ctx, n, kBlock, [&](int64_t begin, int64_t end, int64_t block) {
    parts[block] = HWY_DYNAMIC_DISPATCH(sum_squares_block)(data + begin, end - begin);
  });
  SumSquares total;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const SumSquares& part = parts[begin / kBlock];
    total.sum += part.sum;
    if (total.non_finite == 0 && part.non_finite > 0) {
      total.first_non_finite = begin + part.first_non_finite;
    }
    total.non_finite += part.non_finite;
  }
  auto* result = args.result.as<double>();
  result[0] = total.sum;
  result[1] = static_cast<double>(total.non_finite);
  result[2] = static_cast<double>(total.first_non_finite);
}

// Each row p of `out` sums the rows p, p + P, p + 2P, … of x. They are cut into blocks of kRows;
// every block has a row of float64 partial sums, which are added in order.
void column_sum(const ExecutionContext& ctx, const ColumnSumArgs& args) {
  if (args.x.dtype() == DType::kBF16) {
    return in_float32(ctx, args, column_sum, [](Widened& f32, auto& a) { f32.input(a.x); });
  }
  constexpr int64_t kRows = 128;
  const int64_t m = args.x.dim(0);
  const int64_t n = args.x.dim(1);
  const int64_t period = args.out.dim(0);
  if (m == 0 || n == 0) {
    return;
  }
  const auto rows_of = [&](int64_t p) { return p < m ? (m - p + period - 1) / period : 0; };
  const int64_t blocks = (rows_of(0) + kRows - 1) / kRows;
  const auto* x = args.x.as<float>();
  auto* out = args.out.as<float>();
  const int64_t row_stride = args.x.stride(0);
  WorkspaceScope scope(ctx.workspace());
  auto* parts = scope.take<double>(period * blocks * n);
  parallel_for(ctx, period * blocks, 1, [&](int64_t task, int64_t, int64_t) {
    const int64_t p = task / blocks;
    const int64_t first = task % blocks * kRows;
    double* sum = parts + task * n;
    std::fill_n(sum, n, 0.0);
    HWY_DYNAMIC_DISPATCH(add_rows)
    (x + (p + first * period) * row_stride, std::min(kRows, rows_of(p) - first),
     period * row_stride, n, sum);
  });
  parallel_for(ctx, period * n, 4096, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      const double* sum = parts + i / n * blocks * n + i % n;
      double total = 0;
      for (int64_t block = 0; block < blocks; ++block) {
        total += sum[block * n];
      }
      out[i] = static_cast<float>(static_cast<double>(out[i]) + total);
    }
  });
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
