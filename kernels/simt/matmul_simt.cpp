// On a GPU the products of the linear ops are cuBLASLt's, which the executor cannot run: in their
// place stand the CPU's. Everything around them (which epilogue is whose, the kernels of
// linear_cuda.cu) is the real thing.
#include <algorithm>

#include "kernels/linear/gemm.h"
#include "kernels/linear/matmul_cuda.h"
#include "kernels/simt/queue.h"

namespace stemfabric::cuda {

bool matmul(const ExecutionContext& ctx, const MatmulArgs& args) {
  // cuBLASLt need not have an algorithm with every epilogue at every shape: so that the way without
  // is tested too, it is taken here for odd widths.
  const bool fuse = args.n % 2 == 0;
  GemmArgs gemm_args{.m = args.m,
                     .n = args.n,
                     .k = args.k,
                     .a = {args.a.data, args.a.stride, args.a.transposed},
                     .b = {args.b.data, args.b.stride, args.b.transposed},
                     .c = args.c,
                     .c_stride = args.c_stride,
                     .accumulate = args.accumulate};
  if (fuse) {
    gemm_args.epilogue.bias = args.bias;
    gemm_args.epilogue.activation = args.relu ? Activation::kRelu : Activation::kNone;
    gemm_args.b_column_sum = args.b_column_sum;
  }
  simt::Queue::of(ctx.stream()).push([gemm_args] {
    // Scratch of these products is not what a GPU would need: it is none of the device's.
    static const ExecutionContext host({.threads = 1});
    if (gemm_args.b_column_sum != nullptr) {
      std::fill_n(gemm_args.b_column_sum, gemm_args.n, 0.0f);
    }
    gemm(host, gemm_args);
  });
  return fuse;
}

}  // namespace stemfabric::cuda
