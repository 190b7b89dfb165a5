#include "kernels/stem_loss/stem_loss.h"

#include "kernels/common/dispatch.h"
#include "kernels/common/element.h"
#include "kernels/stem_loss/stem_loss_cpu.h"
#include "kernels/stem_loss/stem_loss_cuda.h"

namespace stemfabric {
namespace {

// A tensor of shape [S, B, T, O] whose innermost rows are dense.
void check_rows(const char* op, const char* name, const ConstTensorView& view, DType dtype,
                const Shape& shape) {
  check_tensor(op, name, view, dtype, {shape[0], shape[1], shape[2], shape[3]});
  SF_CHECK(view.dim(3) <= 1 || view.stride(3) == 1, "{}: the last stride of {} is {}, not 1", op,
           name, view.stride(3));
}

void check_dense(const char* op, const char* name, const ConstTensorView& view, DType dtype,
                 std::initializer_list<int64_t> shape) {
  check_tensor(op, name, view, dtype, shape);
  SF_CHECK(view.contiguous(), "{}: {} must be contiguous", op, name);
}

void check_masks(const char* op, const ConstTensorView& target_mask,
                 const ConstTensorView& key_mask, const Shape& shape) {
  if (target_mask) {
    check_rows(op, "target_mask", target_mask, DType::kU8, shape);
  }
  if (key_mask) {
    check_dense(op, "key_mask", key_mask, DType::kU8, {shape[1], shape[2]});
  }
}

}  // namespace

void stem_count(const ExecutionContext& ctx, const StemCountArgs& args) {
  const char* op = "stem_count";
  SF_CHECK(args.shape.rank() == 4, "{}: shape is {}, it must be [S, B, T, O]", op,
           args.shape.to_string());
  check_masks(op, args.target_mask, args.key_mask, args.shape);
  check_dense(op, "count", args.count, DType::kF64, {args.shape[0]});
  SF_DISPATCH(ctx, stem_count, args);
}

void stem_loss(const ExecutionContext& ctx, const StemLossArgs& args) {
  const char* op = "stem_loss";
  check_tensor(op, "prediction", args.prediction, DType::kF32, {-1, -1, -1, -1});
  const Shape& shape = args.prediction.shape();
  check_rows(op, "prediction", args.prediction, DType::kF32, shape);
  check_rows(op, "target", args.target, DType::kF32, shape);
  check_masks(op, args.target_mask, args.key_mask, shape);
  if (args.weight) {
    check_dense(op, "weight", args.weight, DType::kF32, {shape[1], shape[0]});
  }
  if (args.gradient) {
    check_rows(op, "gradient", args.gradient, activation_dtype(args.gradient), shape);
  }
  check_dense(op, "count", args.count, DType::kF64, {shape[0]});
  check_dense(op, "loss", args.loss, DType::kF64, {shape[0]});
  check_dense(op, "weighted", args.weighted, DType::kF64, {shape[0]});
  SF_DISPATCH(ctx, stem_loss, args);
}

}  // namespace stemfabric
