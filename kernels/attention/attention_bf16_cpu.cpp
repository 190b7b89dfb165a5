// bfloat16 attention on the CPU: inputs widened, the float32 op, results rounded. There to compare
// a device with and to run what a device trained, not to be fast.
#include "kernels/attention/attention_cpu.h"
#include "kernels/common/parallel_for.h"
#include "runtime/core/bf16.h"

namespace stemfabric::attention_cpu {
namespace {

constexpr int64_t kTokensPerBlock = 64;

// Calls body(row of a, row of b) for all rows of two [B, T, H, D] tensors.
template <typename A, typename B, typename Body>
void for_rows(const ExecutionContext& ctx, const Shape& shape, const Rows<A>& a, const Rows<B>& b,
              const Body& body) {
  const int64_t tokens = shape[1];
  parallel_for(ctx, shape[0] * tokens, kTokensPerBlock, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t h = 0; h < shape[2]; ++h) {
        body(a.head(i / tokens, h) + i % tokens * a.token_stride,
             b.head(i / tokens, h) + i % tokens * b.token_stride);
      }
    }
  });
}

// float32 stand-ins of bfloat16 tensors, in scratch memory.
class Float32 {
 public:
  explicit Float32(const ExecutionContext& ctx) : ctx_(ctx), scope_(ctx.workspace()) {}

  ConstTensorView widened(const ConstTensorView& x) {
    const TensorView copy = output(x);
    for_rows(ctx_, x.shape(), rows_of<Bf16>(x), rows_of<float>(copy),
             [dim = x.dim(3)](const Bf16* from, float* to) {
               for (int64_t e = 0; e < dim; ++e) {
                 to[e] = from_bf16(from[e]);
               }
             });
    return copy;
  }
  TensorView output(const ConstTensorView& like) {
    return like ? TensorView(scope_.take<float>(like.elements()), like.shape()) : TensorView();
  }
  void round(const TensorView& x, const TensorView& to_tensor) const {
    if (!x) {
      return;
    }
    for_rows(ctx_, x.shape(), rows_of<float>(x), rows_of<Bf16>(to_tensor),
             [dim = x.dim(3)](const float* from, Bf16* to) {
               for (int64_t e = 0; e < dim; ++e) {
                 to[e] = to_bf16(from[e]);
               }
             });
  }

 private:
  const ExecutionContext& ctx_;
  WorkspaceScope scope_;
};

}  // namespace

void forward_bf16(const ExecutionContext& ctx, const AttentionForwardArgs& args) {
  Float32 scratch(ctx);
  AttentionForwardArgs wide = args;
  wide.q = scratch.widened(args.q);
  wide.k = scratch.widened(args.k);
  wide.v = scratch.widened(args.v);
  wide.o = scratch.output(args.o);
  wide.o2 = scratch.output(args.o2);
  cpu::attention_forward(ctx, wide);
  scratch.round(wide.o, args.o);
  scratch.round(wide.o2, args.o2);
}

void backward_bf16(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  Float32 scratch(ctx);
  AttentionBackwardArgs wide = args;
  wide.q = scratch.widened(args.q);
  wide.k = scratch.widened(args.k);
  wide.v = scratch.widened(args.v);
  wide.o = scratch.widened(args.o);
  wide.o2 = scratch.widened(args.o2);
  wide.d_o = scratch.widened(args.d_o);
  wide.dq = scratch.output(args.dq);
  wide.dk = scratch.output(args.dk);
  wide.dv = scratch.output(args.dv);
  cpu::attention_backward(ctx, wide);
  scratch.round(wide.dq, args.dq);
  scratch.round(wide.dk, args.dk);
  scratch.round(wide.dv, args.dv);
}

}  // namespace stemfabric::attention_cpu
