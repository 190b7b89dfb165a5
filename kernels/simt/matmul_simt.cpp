// On a GPU the products of the linear ops are cuBLASLt's, which the executor cannot run: in their
// place stand the CPU's. Everything around them (which epilogue is whose, the kernels of
// linear_cuda.cu) is the real thing.
#include <algorithm>
#include <iterator>
#include <vector>

#include "kernels/linear/gemm.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/matmul_cuda.h"
#include "kernels/simt/queue.h"
#include "runtime/core/bf16.h"

namespace stemfabric::cuda {
namespace {

// [rows, columns] of bf16 as float32, dense.
std::vector<float> widened(const void* data, int64_t stride, int64_t rows, int64_t columns) {
  std::vector<float> wide;
  for (int64_t row = 0; row < rows; ++row) {
    const Bf16* from = static_cast<const Bf16*>(data) + row * stride;
    std::transform(from, from + columns, std::back_inserter(wide),
                   [](Bf16 x) { return from_bf16(x); });
  }
  return wide;
}

// NaN passes a ReLU, and its gradient.
bool passes_relu(float x) { return !(x <= 0.0f); }
bool passes_relu(Bf16 x) { return passes_relu(from_bf16(x)); }

// The product of float32 factors, with its epilogue if `fuse`.
void multiply(const MatmulArgs& args, bool fuse) {
  GemmArgs gemm_args{
      .m = args.m,
      .n = args.n,
      .k = args.k,
      .a = {static_cast<const float*>(args.a.data), args.a.stride, args.a.transposed},
      .b = {static_cast<const float*>(args.b.data), args.b.stride, args.b.transposed},
      .c = static_cast<float*>(args.c),
      .c_stride = args.c_stride,
      .accumulate = args.accumulate};
  if (fuse) {
    gemm_args.epilogue.bias = static_cast<const float*>(args.bias);
    gemm_args.epilogue.activation = args.relu ? Activation::kRelu : Activation::kNone;
    gemm_args.b_column_sum = args.b_column_sum;
  }
  // Scratch of these products is not what a GPU would need: it is none of the device's.
  thread_local const ExecutionContext host({.threads = 1});
  if (gemm_args.b_column_sum != nullptr) {
    std::fill_n(gemm_args.b_column_sum, gemm_args.n, 0.0f);
  }
  gemm(host, gemm_args);
}

// bf16 factors widened, and the result rounded if it is bf16.
void multiply_bf16(MatmulArgs args, bool fuse) {
  const auto widen = [](MatmulOperand& x, int64_t rows, int64_t columns) {
    const int64_t width = x.transposed ? rows : columns;
    auto wide = widened(x.data, x.stride, x.transposed ? columns : rows, width);
    x = {wide.data(), width, x.transposed};
    return wide;
  };
  const std::vector<float> a = widen(args.a, args.m, args.k);
  const std::vector<float> b = widen(args.b, args.k, args.n);
  if (args.c_dtype == DType::kF32) {
    return multiply(args, fuse);
  }
  auto* const to = static_cast<Bf16*>(args.c);
  std::vector<float> c(static_cast<std::size_t>(args.m * args.n));
  if (args.accumulate) {
    c = widened(to, args.c_stride, args.m, args.n);
  }
  std::vector<float> bias;
  if (args.bias != nullptr) {
    bias = widened(args.bias, 0, 1, args.n);
    args.bias = bias.data();
  }
  const int64_t stride = args.c_stride;
  args.c = c.data();
  args.c_stride = args.n;
  multiply(args, fuse);
  for (int64_t i = 0; i < args.m * args.n; ++i) {
    to[i / args.n * stride + i % args.n] = to_bf16(c[static_cast<std::size_t>(i)]);
  }
}

// Writes the bits C > 0, or clears C where they are 0. Bit n of a row is bit n mod 8 of byte n / 8.
void apply_mask(const MatmulArgs& args, bool write) {
  auto* bits = static_cast<uint8_t*>(args.relu_mask);
  const auto each = [&](auto* c, auto zero) {
    for (int64_t i = 0; i < args.m * args.n; ++i) {
      const int64_t row = i / args.n;
      const int64_t column = i % args.n;
      auto& value = c[row * args.c_stride + column];
      uint8_t& byte = bits[row * relu_mask_bytes(args.n) + column / 8];
      const auto bit = static_cast<uint8_t>(1U << (column % 8));
      if (!write) {
        value = (byte & bit) != 0 ? value : zero;
      } else if (passes_relu(value)) {
        byte = static_cast<uint8_t>(byte | bit);
      } else {
        byte = static_cast<uint8_t>(byte & ~bit);
      }
    }
  };
  args.c_dtype == DType::kBF16 ? each(static_cast<Bf16*>(args.c), Bf16{})
                               : each(static_cast<float*>(args.c), 0.0f);
}

// One product of a batch.
MatmulArgs product_of(MatmulArgs args, int64_t i) {
  const auto factor = static_cast<int64_t>(dtype_size(args.dtype));
  const auto result = static_cast<int64_t>(dtype_size(args.c_dtype));
  args.a.data = static_cast<const std::byte*>(args.a.data) + i * args.a.step * factor;
  args.b.data = static_cast<const std::byte*>(args.b.data) + i * args.b.step * factor;
  args.c = static_cast<std::byte*>(args.c) + i * args.c_step * result;
  if (args.bias != nullptr) {
    args.bias = static_cast<const std::byte*>(args.bias) + i * args.vector_step * result;
  }
  if (args.b_column_sum != nullptr) {
    args.b_column_sum += i * args.vector_step;
  }
  return args;
}

}  // namespace

MatmulDone matmul(const ExecutionContext& ctx, const MatmulArgs& args) {
  // cuBLASLt need not have an algorithm with every epilogue at every shape: so that the way without
  // is tested too, it is taken here for odd widths, that without a mask for those of 6, 14, …, and
  // that without the gradient by it for as many terms.
  const bool fuse = args.n % 2 == 0 && !(args.relu_gradient && args.k % 8 == 6);
  const bool write_mask = fuse && args.n % 8 != 6 && args.relu && args.relu_mask != nullptr;
  simt::Queue::of(ctx.stream()).push([args, fuse, write_mask] {
    for (int64_t i = 0; i < args.batch; ++i) {
      const MatmulArgs one = product_of(args, i);
      one.dtype == DType::kBF16 ? multiply_bf16(one, fuse) : multiply(one, fuse);
      if (write_mask || (fuse && one.relu_gradient)) {
        apply_mask(one, write_mask);
      }
    }
  });
  return {.epilogue = fuse, .relu_mask = write_mask};
}

}  // namespace stemfabric::cuda
