#include "kernels/attention/attention.h"

#include <cmath>

#include "kernels/attention/attention_cpu.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/common/dispatch.h"
#include "runtime/core/check.h"

namespace stemfabric {
namespace {

constexpr int64_t kMaxDim = 128;
constexpr int64_t kMaxTokens = int64_t{1} << 24;

struct Sizes {
  int64_t batch, tokens, heads, dim;
};

void check_rows(const char* op, const char* name, const ConstTensorView& view, DType dtype,
                const Sizes& s) {
  check_tensor(op, name, view, dtype, {s.batch, s.tokens, s.heads, s.dim});
  SF_CHECK(view.stride(3) == 1 || s.dim == 1, "{}: the last stride of {} is {}; it must be 1", op,
           name, view.stride(3));
}

void check_stats(const char* op, const ConstTensorView& view, const Sizes& s) {
  check_tensor(op, "stats", view, DType::kF32, {s.batch, s.heads, s.tokens, 4});
  SF_CHECK(view.stride(3) == 1, "{}: the last stride of stats is {}; it must be 1", op,
           view.stride(3));
}

// Checks what forward and backward have in common; returns the sizes of q.
template <typename Args>
Sizes check_common(const char* op, const Args& args) {
  const DType dtype = args.q.dtype() == DType::kBF16 ? DType::kBF16 : DType::kF32;
  check_tensor(op, "q", args.q, dtype, {-1, -1, -1, -1});
  const Sizes s{args.q.dim(0), args.q.dim(1), args.q.dim(2), args.q.dim(3)};
  SF_CHECK(s.dim >= 1 && s.dim <= kMaxDim, "{}: head dimension {}; it must be 1 … {}", op, s.dim,
           kMaxDim);
  SF_CHECK(s.tokens <= kMaxTokens, "{}: {} tokens; at most {} are supported", op, s.tokens,
           kMaxTokens);
  check_rows(op, "q", args.q, dtype, s);
  check_rows(op, "k", args.k, dtype, s);
  check_rows(op, "v", args.v, dtype, s);
  if (args.key_mask) {
    check_tensor(op, "key_mask", args.key_mask, DType::kU8, {s.batch, s.tokens});
  }
  SF_CHECK(args.dropout.p >= 0.0f && args.dropout.p < 1.0f,
           "{}: dropout probability {}; it must be in [0, 1)", op, args.dropout.p);
  SF_CHECK(dropout_threshold(args.dropout.p) < 65536u,
           "{}: dropout probability {} would drop everything", op, args.dropout.p);
  SF_CHECK(std::isfinite(args.config.alpha) && std::isfinite(args.config.beta) &&
               std::isfinite(args.config.gamma),
           "{}: coefficients ({}, {}, {}) must be finite", op, args.config.alpha, args.config.beta,
           args.config.gamma);
  return s;
}

}  // namespace

void attention_forward(const ExecutionContext& ctx, const AttentionForwardArgs& args) {
  constexpr const char* kOp = "attention_forward";
  const Sizes s = check_common(kOp, args);
  check_rows(kOp, "o", args.o, args.q.dtype(), s);
  const bool training =
      static_cast<bool>(args.o2) || static_cast<bool>(args.u) || static_cast<bool>(args.stats);
  if (training) {
    check_rows(kOp, "o2", args.o2, args.q.dtype(), s);
    check_rows(kOp, "u", args.u, DType::kF32, s);
    check_stats(kOp, args.stats, s);
  }
  SF_DISPATCH(ctx, attention_forward, args);
}

void attention_backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  constexpr const char* kOp = "attention_backward";
  const Sizes s = check_common(kOp, args);
  check_rows(kOp, "o", args.o, args.q.dtype(), s);
  check_rows(kOp, "o2", args.o2, args.q.dtype(), s);
  check_rows(kOp, "u", args.u, DType::kF32, s);
  check_stats(kOp, args.stats, s);
  check_rows(kOp, "d_o", args.d_o, args.q.dtype(), s);
  check_rows(kOp, "dq", args.dq, args.q.dtype(), s);
  check_rows(kOp, "dk", args.dk, args.q.dtype(), s);
  check_rows(kOp, "dv", args.dv, args.q.dtype(), s);
  SF_DISPATCH(ctx, attention_backward, args);
}

}  // namespace stemfabric
