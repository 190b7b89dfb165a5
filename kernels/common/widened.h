// bf16 on the CPU: inputs widened, the float32 op, results rounded once. There to compare a device
// with and to run what a device trained, not to be fast. Scratch memory: 4 bytes per element of the
// bf16 tensors.
//
//   if (args.x.dtype() == DType::kBF16) {
//     return in_float32(ctx, args, activation_forward, [](Widened& f32, auto& a) {
//       f32.input(a.x);
//       f32.output(a.y);
//     });
//   }
#pragma once

#include <array>

#include "kernels/common/parallel_for.h"
#include "runtime/core/bf16.h"
#include "runtime/core/check.h"
#include "runtime/core/tensor_view.h"
#include "runtime/memory/workspace.h"

namespace stemfabric::cpu {

// Puts float32 copies in the place of bf16 views. Other views, and absent ones, stay as they are.
class Widened {
 public:
  explicit Widened(const ExecutionContext& ctx) : ctx_(ctx), scope_(ctx.workspace()) {}

  void input(ConstTensorView& x) {
    if (is_bf16(x)) {
      const TensorView copy = take(x);
      widen(x, copy);
      x = copy;
    }
  }
  void output(TensorView& y) {
    if (is_bf16(y)) {
      SF_CHECK(outputs_ < results_.size(), "an op with {} bf16 results", results_.size() + 1);
      const TensorView copy = take(y);
      results_[outputs_++] = {copy, y};
      y = copy;
    }
  }
  void in_place(TensorView& x) {
    const TensorView original = x;
    output(x);
    if (is_bf16(original)) {
      widen(original, x);
    }
  }
  // Rounds what was computed into the bf16 tensors.
  void finish() const {
    for (std::size_t i = 0; i < outputs_; ++i) {
      round(results_[i].copy, results_[i].original);
    }
  }

 private:
  struct Result {
    TensorView copy, original;
  };
  static bool is_bf16(const ConstTensorView& x) { return x && x.dtype() == DType::kBF16; }

  TensorView take(const ConstTensorView& like) {
    return {scope_.take<float>(like.elements()), like.shape()};
  }
  // body(offset of the row in a dense tensor, offset in x) for all rows along the last axis.
  template <typename Body>
  void for_rows(const ConstTensorView& x, const Body& body) const {
    constexpr int64_t kRowsPerTask = 64;
    const int64_t columns = x.dim(-1);
    const int64_t rows = columns == 0 ? 0 : x.elements() / columns;
    parallel_for(ctx_, rows, kRowsPerTask, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t row = begin; row < end; ++row) {
        int64_t at = 0;
        int64_t rest = row;
        for (int axis = x.rank() - 2; axis >= 0; --axis) {
          at += rest % x.dim(axis) * x.stride(axis);
          rest /= x.dim(axis);
        }
        body(row * columns, at);
      }
    });
  }
  void widen(const ConstTensorView& from, const TensorView& to) const {
    for_rows(from, [&](int64_t dense, int64_t strided) {
      for (int64_t c = 0; c < from.dim(-1); ++c) {
        to.as<float>()[dense + c] = from_bf16(from.as<Bf16>()[strided + c * from.stride(-1)]);
      }
    });
  }
  void round(const TensorView& from, const TensorView& to) const {
    for_rows(to, [&](int64_t dense, int64_t strided) {
      for (int64_t c = 0; c < to.dim(-1); ++c) {
        to.as<Bf16>()[strided + c * to.stride(-1)] = to_bf16(from.as<float>()[dense + c]);
      }
    });
  }

  const ExecutionContext& ctx_;
  WorkspaceScope scope_;
  std::array<Result, 3> results_;
  std::size_t outputs_ = 0;
};

// op(ctx, args) with the views that `widen` names as float32 copies.
template <typename Args, typename Widen>
void in_float32(const ExecutionContext& ctx, Args args,
                void (*op)(const ExecutionContext&, const Args&), const Widen& widen) {
  Widened copies(ctx);
  widen(copies, args);
  op(ctx, args);
  copies.finish();
}

}  // namespace stemfabric::cpu
