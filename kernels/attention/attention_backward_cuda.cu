// Attention backward in three kernels, float32 on CUDA cores, O(T) memory, no atomics: every sum
// has a fixed order (docs/attention.md).
//
//   rows     per query: D1 = dO·U, w D2 = w dO·O2, D0 = dO·O and what the statistics become; per 64
//            queries: Σ c0 dO; per 32 keys: a word of mask bits. Bound by memory: reads dO, U, O2
//            (and O, normalized) once, 12 to 16 bytes per element of dO.
//   keys     a block keeps 64 keys (32 for D > 64) and sums dK and dV over all queries: 4 products
//   queries  a block keeps 64 queries (32) and sums dQ over all keys: 3 products, S and dG again
//
// Seven products where five would do with atomics or with dQ of the whole head on chip: two fifths
// more arithmetic buys the same bits on every run, for any T, without a slice of dQ per key block.
// The two large kernels are bound by fused multiply-adds: 4 D and 3 D of them per query and key
// for the products, about 30 for exp and polynomials. A block reads 8 D bytes per row that it
// streams, from the L2 cache, for 64 times as many columns. In shared memory a step of a product
// reads 8 float4s for 64 multiply-adds (scores) and 4 for 32 or 6 for 64 (sums, D = 32 and 64),
// without bank conflicts.
#include <cmath>

#include "kernels/attention/attention_backward_keys.cuh"
#include "kernels/attention/attention_backward_queries.cuh"
#include "kernels/attention/attention_cuda.h"

namespace stemfabric::attention::backward {
namespace {

BackwardParameters parameters_of(const AttentionBackwardArgs& args) {
  BackwardParameters p{};
  p.tokens = args.q.dim(1);
  p.heads = args.q.dim(2);
  p.dim = static_cast<int>(args.q.dim(3));
  p.chunks = ceil_div(p.tokens, kChunk);
  p.q = quad_rows(rows_of(args.q), p.dim);
  p.k = quad_rows(rows_of(args.k), p.dim);
  p.v = quad_rows(rows_of(args.v), p.dim);
  p.o = quad_rows(rows_of(args.o), p.dim);
  p.o2 = quad_rows(rows_of(args.o2), p.dim);
  p.u = quad_rows(rows_of(args.u), p.dim);
  p.d_o = quad_rows(rows_of(args.d_o), p.dim);
  p.dq = quad_rows(rows_of(args.dq), p.dim);
  p.dk = quad_rows(rows_of(args.dk), p.dim);
  p.dv = quad_rows(rows_of(args.dv), p.dim);
  p.stats = stat_rows_of(args.stats);
  p.mask = key_mask_of(args.key_mask);
  p.scale = 1.0f / std::sqrt(static_cast<float>(p.dim));
  p.kappa = attention_kappa(p.dim);
  p.dropout_scale = dropout_scale(args.dropout.p);
  p.keep = keep_of(args.dropout);
  p.coefficients = attention_coefficients(args.config);
  p.b = p.coefficients.b;
  p.polynomial = p.coefficients.polynomial;
  p.normalized = p.coefficients.normalized;
  for (int r = 0; r < kAttentionDegree; ++r) {
    p.h_slope[r] = static_cast<float>(r + 1) * p.coefficients.h[r];
    p.x_slope[r] = static_cast<float>(r + 1) * p.coefficients.x[r];
  }
  return p;
}

template <int kDim, bool kDropout>
void launch_kernels(const ExecutionContext& ctx, const BackwardParameters& p, int64_t heads) {
  launch(ctx,
         {.kernel = "attention_backward_rows_kernel",
          .grid = grid_size(heads * p.chunks),
          .block = kThreads},
         attention_backward_rows_kernel<kDim, float>, p);
  const unsigned grid = grid_size(heads * ceil_div(p.tokens, Tile<kDim>::kColumns));
  launch(ctx,
         {.kernel = "attention_backward_keys_kernel",
          .grid = grid,
          .block = kThreads,
          .dynamic_shared_bytes = sizeof(KeysShared<kDim>)},
         attention_backward_keys_kernel<kDim, kDropout>, p);
  launch(ctx,
         {.kernel = "attention_backward_queries_kernel",
          .grid = grid,
          .block = kThreads,
          .dynamic_shared_bytes = sizeof(QueriesShared<kDim>)},
         attention_backward_queries_kernel<kDim, kDropout>, p);
}

template <int kDim>
void backward_of(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  BackwardParameters p = parameters_of(args);
  const int64_t batch = args.q.dim(0);
  const int64_t heads = batch * p.heads;
  const bool dropout = p.keep.threshold != 0;
  WorkspaceScope scope(ctx.workspace());
  p.terms = scope.take<RowTerms>(heads * p.tokens);
  p.key_words = scope.take<uint32_t>(batch * p.chunks * 2);
  if (p.coefficients.polynomial && !dropout) {
    p.common = scope.take<float>(heads * p.chunks * kDim);
  }
  (dropout ? launch_kernels<kDim, true> : launch_kernels<kDim, false>)(ctx, p, heads);
}

}  // namespace
}  // namespace stemfabric::attention::backward

namespace stemfabric::cuda {

void attention_backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  const int64_t dim = args.q.dim(3);
  if (args.q.elements() == 0) {
    return;
  }
  if (args.q.dtype() == DType::kBF16) {
    return attention_backward_bf16(ctx, args);
  }
  auto* const run = dim <= 16   ? &attention::backward::backward_of<16>
                    : dim <= 32 ? &attention::backward::backward_of<32>
                    : dim <= 64 ? &attention::backward::backward_of<64>
                                : &attention::backward::backward_of<128>;
  run(ctx, args);
}

}  // namespace stemfabric::cuda
