// Forward pass on CUDA: the kernels and which of them runs. How they work:
// attention_forward_block.cuh.
#include "kernels/attention/attention_cuda.h"
#include "kernels/attention/attention_forward_block.cuh"

namespace stemfabric::attention::forward {
namespace {

template <class Kind>
__global__ void __launch_bounds__(kThreads, Kind::kBlocks)
    attention_forward_kernel(const __grid_constant__ ForwardParameters parameters) {
  ForwardBlock<Kind>(parameters).run();
}

template <class Kind>
void launch_kind(const ExecutionContext& ctx, ForwardParameters p, int64_t heads) {
  p.tiles = ceil_div(p.tokens, Kind::kBlockRows);
  launch(ctx,
         {.kernel = "attention_forward_kernel",
          .grid = grid_size(heads * p.tiles),
          .block = kThreads,
          .dynamic_shared_bytes = sizeof(ForwardShared<Kind>)},
         attention_forward_kernel<Kind>, p);
}

template <bool kPolynomial, bool kTraining, bool kDropout>
void launch_dim(const ExecutionContext& ctx, const ForwardParameters& p, int64_t heads) {
  if (p.dim <= 16) {
    launch_kind<ForwardKind<16, kPolynomial, kTraining, kDropout>>(ctx, p, heads);
  } else if (p.dim <= 32) {
    launch_kind<ForwardKind<32, kPolynomial, kTraining, kDropout>>(ctx, p, heads);
  } else if (p.dim <= 64) {
    launch_kind<ForwardKind<64, kPolynomial, kTraining, kDropout>>(ctx, p, heads);
  } else {
    launch_kind<ForwardKind<128, kPolynomial, kTraining, kDropout>>(ctx, p, heads);
  }
}

template <bool kDropout>
void launch_activation(const ExecutionContext& ctx, const ForwardParameters& p, int64_t heads) {
  if (!p.coefficients.polynomial) {
    launch_dim<false, true, kDropout>(ctx, p, heads);
  } else if (p.training) {
    launch_dim<true, true, kDropout>(ctx, p, heads);
  } else {
    launch_dim<true, false, kDropout>(ctx, p, heads);
  }
}

}  // namespace
}  // namespace stemfabric::attention::forward

namespace stemfabric::cuda {

void attention_forward(const ExecutionContext& ctx, const AttentionForwardArgs& args) {
  using namespace attention;           // NOLINT: of this function alone
  using namespace attention::forward;  // NOLINT
  if (args.q.elements() == 0) {
    return;
  }
  if (args.q.dtype() == DType::kBF16) {
    return attention_forward_bf16(ctx, args);
  }
  const int64_t dim = args.q.dim(3);
  ForwardParameters p{.q = rows_of(args.q),
                      .k = rows_of(args.k),
                      .v = rows_of(args.v),
                      .mask = key_mask_of(args.key_mask),
                      .o = rows_of(args.o),
                      .o2 = rows_of(args.o2),
                      .u = rows_of(args.u),
                      .stats = {},
                      .coefficients = attention_coefficients(args.config),
                      .keep = keep_of(args.dropout),
                      .keep_scale = dropout_scale(args.dropout.p),
                      .kappa = attention_kappa(dim),
                      .tokens = args.q.dim(1),
                      .heads = args.q.dim(2),
                      .tiles = 0,
                      .dim = static_cast<int>(dim),
                      .training = static_cast<bool>(args.stats),
                      .vector_loads = false,
                      .vector_stores = false};
  p.stats = stat_rows_of(args.stats);
  p.vector_loads =
      rows_are_vectors(p.q, dim) && rows_are_vectors(p.k, dim) && rows_are_vectors(p.v, dim);
  // Absent tensors count as aligned.
  p.vector_stores =
      rows_are_vectors(p.o, dim) && rows_are_vectors(p.o2, dim) && rows_are_vectors(p.u, dim);
  const int64_t heads = args.q.dim(0) * p.heads;
  if (p.keep.threshold != 0) {
    launch_activation<true>(ctx, p, heads);
  } else {
    launch_activation<false>(ctx, p, heads);
  }
}

}  // namespace stemfabric::cuda
