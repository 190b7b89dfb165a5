// Backward pass in bf16 on CUDA: the kernels and which of them run. How they work:
// attention_backward_bf16.cuh.
#include <cmath>

#include "kernels/attention/attention_backward_bf16.cuh"
#include "kernels/attention/attention_cuda.h"
#include "kernels/attention/attention_cudnn.h"

namespace stemfabric::attention::backward_bf16 {
namespace {

template <class K>
__global__ void __launch_bounds__(kThreads, K::kBlocks)
    attention_backward_keys_bf16_kernel(const __grid_constant__ Parameters parameters) {
  KeysBlock<K>(parameters).run();
}
template <class K>
__global__ void __launch_bounds__(kThreads, K::kBlocks)
    attention_backward_queries_bf16_kernel(const __grid_constant__ Parameters parameters) {
  QueriesBlock<K>(parameters).run();
}

Parameters parameters_of(const AttentionBackwardArgs& args) {
  Parameters p{};
  p.tokens = args.q.dim(1);
  p.heads = args.q.dim(2);
  p.dim = static_cast<int>(args.q.dim(3));
  p.chunks = ceil_div(p.tokens, backward::kChunk);
  p.o = backward::quad_rows(rows_of<Bf16>(args.o), p.dim);
  p.o2 = backward::quad_rows(rows_of<Bf16>(args.o2), p.dim);
  p.u = backward::quad_rows(rows_of(args.u), p.dim);
  p.d_o = backward::quad_rows(rows_of<Bf16>(args.d_o), p.dim);
  p.stats = stat_rows_of(args.stats);
  p.mask = key_mask_of(args.key_mask);
  p.q = rows_of<Bf16>(args.q);
  p.k = rows_of<Bf16>(args.k);
  p.v = rows_of<Bf16>(args.v);
  p.dq = rows_of<Bf16>(args.dq);
  p.dk = rows_of<Bf16>(args.dk);
  p.dv = rows_of<Bf16>(args.dv);
  p.scale = 1.0f / std::sqrt(static_cast<float>(p.dim));
  p.kappa = attention_kappa(p.dim);
  p.dropout_scale = dropout_scale(args.dropout.p);
  p.keep = keep_of(args.dropout);
  p.coefficients = moment_coefficients(args.config);
  p.b = p.coefficients.b;
  p.polynomial = p.coefficients.polynomial;
  p.normalized = p.coefficients.normalized;
  for (int r = 0; r < kMomentDegree; ++r) {
    p.h_slope[r] = static_cast<float>(r + 1) * p.coefficients.h[r];
    p.x_slope[r] = static_cast<float>(r + 1) * p.coefficients.x[r];
  }
  p.vector_loads = rows_are_copied(p.q, p.dim) && rows_are_copied(p.k, p.dim) &&
                   rows_are_copied(p.v, p.dim) && rows_are_copied(p.d_o, p.dim);
  p.pair_stores =
      rows_are_pairs(p.dq, p.dim) && rows_are_pairs(p.dk, p.dim) && rows_are_pairs(p.dv, p.dim);
  return p;
}

template <class K>
void launch_kernels(const ExecutionContext& ctx, const Parameters& p, int64_t heads) {
  launch(ctx,
         {.kernel = "attention_backward_rows_bf16_kernel",
          .grid = grid_size(heads * p.chunks),
          .block = kThreads},
         backward::attention_backward_rows_kernel<K::kDim, Bf16>, p);
  const unsigned grid = grid_size(heads * ceil_div(p.tokens, kColumns));
  launch(ctx,
         {.kernel = "attention_backward_keys_bf16_kernel",
          .grid = grid,
          .block = kThreads,
          .dynamic_shared_bytes = sizeof(KeysShared<K>)},
         attention_backward_keys_bf16_kernel<K>, p);
  launch(ctx,
         {.kernel = "attention_backward_queries_bf16_kernel",
          .grid = grid,
          .block = kThreads,
          .dynamic_shared_bytes = sizeof(QueriesShared<K>)},
         attention_backward_queries_bf16_kernel<K>, p);
}

template <int kDim>
void backward_of(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  Parameters p = parameters_of(args);
  const int64_t batch = args.q.dim(0);
  const int64_t heads = batch * p.heads;
  const bool dropout = p.keep.threshold != 0;
  WorkspaceScope scope(ctx.workspace());
  p.terms = scope.take<RowTerms>(heads * p.tokens);
  p.key_words = scope.take<uint32_t>(batch * p.chunks * 2);
  if (p.polynomial && !dropout) {
    p.common = scope.take<float>(heads * p.chunks * kDim);
  }
  auto* const run = p.polynomial ? (dropout ? &launch_kernels<Kind<kDim, true, true>>
                                            : &launch_kernels<Kind<kDim, true, false>>)
                                 : (dropout ? &launch_kernels<Kind<kDim, false, true>>
                                            : &launch_kernels<Kind<kDim, false, false>>);
  run(ctx, p, heads);
}

}  // namespace
}  // namespace stemfabric::attention::backward_bf16

namespace stemfabric::cuda {

void attention_backward_bf16(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  if (cudnn_attention_backward(ctx, args)) {
    return;
  }
  using namespace attention::backward_bf16;  // NOLINT: of this function alone
  const int64_t dim = args.q.dim(3);
  auto* const run = dim <= 16   ? &backward_of<16>
                    : dim <= 32 ? &backward_of<32>
                    : dim <= 64 ? &backward_of<64>
                                : &backward_of<128>;
  run(ctx, args);
}

}  // namespace stemfabric::cuda
