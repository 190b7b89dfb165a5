// Forward pass in bf16 on CUDA: the kernels and which of them runs. How they work:
// attention_forward_bf16.cuh.
#include "kernels/attention/attention_cuda.h"
#include "kernels/attention/attention_cudnn.h"
#include "kernels/attention/attention_forward_bf16.cuh"

namespace stemfabric::attention::forward_bf16 {
namespace {

template <class K>
__global__ void __launch_bounds__(kThreads, K::kBlocks)
    attention_forward_bf16_kernel(const __grid_constant__ Parameters parameters) {
  Block<K>(parameters).run();
}

template <class K>
void launch_kind(const ExecutionContext& ctx, Parameters p, int64_t heads) {
  p.tiles = ceil_div(p.tokens, K::kBlockRows);
  launch(ctx,
         {.kernel = "attention_forward_bf16_kernel",
          .grid = grid_size(heads * p.tiles),
          .block = kThreads,
          .dynamic_shared_bytes = sizeof(Shared<K>)},
         attention_forward_bf16_kernel<K>, p);
}

template <bool kPolynomial, bool kDropout>
void launch_dim(const ExecutionContext& ctx, const Parameters& p, int64_t heads) {
  if (p.dim <= 16) {
    launch_kind<Kind<16, kPolynomial, kDropout>>(ctx, p, heads);
  } else if (p.dim <= 32) {
    launch_kind<Kind<32, kPolynomial, kDropout>>(ctx, p, heads);
  } else if (p.dim <= 64) {
    launch_kind<Kind<64, kPolynomial, kDropout>>(ctx, p, heads);
  } else {
    launch_kind<Kind<128, kPolynomial, kDropout>>(ctx, p, heads);
  }
}

}  // namespace
}  // namespace stemfabric::attention::forward_bf16

namespace stemfabric::cuda {

void attention_forward_bf16(const ExecutionContext& ctx, const AttentionForwardArgs& args) {
  if (cudnn_attention_forward(ctx, args)) {
    return;
  }
  using namespace attention;                // NOLINT: of this function alone
  using namespace attention::forward_bf16;  // NOLINT
  const int64_t dim = args.q.dim(3);
  Parameters p{.q = rows_of<Bf16>(args.q),
               .k = rows_of<Bf16>(args.k),
               .v = rows_of<Bf16>(args.v),
               .mask = key_mask_of(args.key_mask),
               .o = rows_of<Bf16>(args.o),
               .o2 = rows_of<Bf16>(args.o2),
               .u = rows_of(args.u),
               .stats = stat_rows_of(args.stats),
               .coefficients = moment_coefficients(args.config),
               .keep = keep_of(args.dropout),
               .keep_scale = dropout_scale(args.dropout.p),
               .kappa = attention_kappa(dim),
               .tokens = args.q.dim(1),
               .heads = args.q.dim(2),
               .tiles = 0,
               .dim = static_cast<int>(dim),
               .training = static_cast<bool>(args.stats),
               .vector_loads = false,
               .pair_stores = false};
  p.vector_loads =
      rows_are_copied(p.q, dim) && rows_are_copied(p.k, dim) && rows_are_copied(p.v, dim);
  // Absent tensors count as aligned.
  p.pair_stores = rows_are_pairs(p.o, dim) && rows_are_pairs(p.o2, dim) && rows_are_pairs(p.u, dim);
  const int64_t heads = args.q.dim(0) * p.heads;
  const bool dropout = p.keep.threshold != 0;
  auto* const run = p.coefficients.polynomial
                        ? (dropout ? &launch_dim<true, true> : &launch_dim<true, false>)
                        : (dropout ? &launch_dim<false, true> : &launch_dim<false, false>);
  run(ctx, p, heads);
}

}  // namespace stemfabric::cuda
