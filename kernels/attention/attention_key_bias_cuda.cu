// Two passes over a mask of one byte per key, beside attention itself bound by their launches.
#include "kernels/attention/attention_key_bias.h"
#include "kernels/common/launch.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    attention_key_bias_kernel(attention::KeyMask mask, float* bias, int64_t batch, int64_t tokens) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < batch * tokens) {
    bias[i] = mask.open(i / tokens, i % tokens) ? 0.0f : kClosedKey;
  }
}

// A block per batch entry: most find an open key and are done.
__global__ void __launch_bounds__(kThreads)
    attention_clear_closed_kernel(attention::KeyMask mask, AttentionRowsArgs args) {
  const int64_t b = blockIdx.x;
  int open = 0;
  for (int64_t j = threadIdx.x; j < args.tokens; j += kThreads) {
    open |= mask.open(b, j) ? 1 : 0;
  }
  if (__syncthreads_or(open) != 0) {
    return;
  }
  const int64_t elements = args.tokens * args.heads * args.dim;
  for (const attention::Rows<Bf16>& rows : args.rows) {
    if (rows.data == nullptr) {
      continue;
    }
    for (int64_t i = threadIdx.x; i < elements; i += kThreads) {
      const int64_t row = i / args.dim;
      rows.head(b, row % args.heads)[row / args.heads * rows.token_stride + i % args.dim] = Bf16{};
    }
  }
}

}  // namespace

void attention_key_bias(const ExecutionContext& ctx, const attention::KeyMask& mask, float* bias,
                        int64_t batch, int64_t tokens) {
  launch(ctx,
         {.kernel = "attention_key_bias_kernel",
          .grid = grid_size(ceil_div(batch * tokens, kThreads)),
          .block = kThreads},
         attention_key_bias_kernel, mask, bias, batch, tokens);
}

void attention_clear_closed(const ExecutionContext& ctx, const attention::KeyMask& mask,
                            const AttentionRowsArgs& args) {
  launch(
      ctx,
      {.kernel = "attention_clear_closed_kernel", .grid = grid_size(args.batch), .block = kThreads},
      attention_clear_closed_kernel, mask, args);
}

}  // namespace stemfabric::cuda
