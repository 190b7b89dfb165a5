#include "kernels/stem_mask/stem_mask.h"

#include "kernels/common/dispatch.h"
#include "kernels/common/element.h"
#include "kernels/stem_mask/stem_mask_cpu.h"
#include "kernels/stem_mask/stem_mask_cuda.h"

namespace stemfabric {
namespace {

void check_dense(const char* op, const char* name, const ConstTensorView& view, DType dtype,
                 std::initializer_list<int64_t> shape) {
  check_tensor(op, name, view, dtype, shape);
  SF_CHECK(view.contiguous(), "{}: {} must be contiguous", op, name);
}

// A tensor whose last axis is dense.
void check_rows(const char* op, const char* name, const ConstTensorView& view,
                std::initializer_list<int64_t> shape, DType dtype = DType::kF32) {
  check_tensor(op, name, view, dtype, shape);
  SF_CHECK(view.dim(-1) <= 1 || view.stride(-1) == 1, "{}: the last stride of {} is {}, not 1", op,
           name, view.stride(-1));
}

// A tensor whose last two axes, bins and the two parts of a complex number, are dense.
void check_spectra(const char* op, const char* name, const ConstTensorView& view,
                   std::initializer_list<int64_t> shape) {
  check_rows(op, name, view, shape);
  SF_CHECK(view.dim(-2) <= 1 || view.stride(-2) == 2,
           "{}: the stride of the bins of {} is {}, not 2", op, name, view.stride(-2));
}

// What mask_apply and mask_loss share: the mixture is the argument whose shape the others follow.
template <typename Args>
void check_prediction(const char* op, const Args& args) {
  check_spectra(op, "mixture", args.mixture, {-1, -1, -1, -1, 2});
  const int64_t batch = args.mixture.dim(0);
  const int64_t channels = args.mixture.dim(1);
  const int64_t frames = args.mixture.dim(2);
  const int64_t bins = args.mixture.dim(3);
  check_dense(op, "first_bin", args.first_bin, DType::kI32, {-1});
  const int64_t bands = args.first_bin.dim(0);
  SF_CHECK(bands >= 2, "{}: first_bin has {} elements, one per band; there must be 2 or more", op,
           bands);
  check_dense(op, "band", args.band, DType::kI32, {bins});
  check_dense(op, "fraction", args.fraction, DType::kF32, {bins});
  check_rows(op, "prediction", args.prediction, {-1, batch, frames, -1});
  const int64_t of_a_channel = bands * (args.kind == MaskKind::kComplex ? 2 : 1);
  const int64_t outputs = args.prediction.dim(3);
  SF_CHECK(
      outputs == of_a_channel || outputs == channels * of_a_channel,
      "{}: prediction has shape {}; for {} bands its last axis must be {} (one mask) or {} (one "
      "for each of {} channels)",
      op, args.prediction.shape().to_string(), bands, of_a_channel, channels * of_a_channel,
      channels);
}

template <typename Args>
void check_presence(const char* op, const Args& args, int64_t stems, int64_t batch,
                    int64_t frames) {
  if (args.presence) {
    check_dense(op, "presence", args.presence, DType::kU8, {batch, stems});
  }
  if (args.key_mask) {
    check_dense(op, "key_mask", args.key_mask, DType::kU8, {batch, frames});
  }
}

// Stem spectra that belong to prediction and mixture.
template <typename Args>
void check_stem_spectra(const char* op, const char* name, const ConstTensorView& view,
                        const Args& args) {
  const ConstTensorView& x = args.mixture;
  check_spectra(op, name, view,
                {args.prediction.dim(0), x.dim(0), x.dim(1), x.dim(2), x.dim(3), 2});
}

}  // namespace

void mask_apply(const ExecutionContext& ctx, const MaskApplyArgs& args) {
  const char* op = "mask_apply";
  check_prediction(op, args);
  check_stem_spectra(op, "estimate", args.estimate, args);
  SF_DISPATCH(ctx, mask_apply, args);
}

void mask_count(const ExecutionContext& ctx, const MaskCountArgs& args) {
  const char* op = "mask_count";
  SF_CHECK(args.shape.rank() == 5, "{}: shape is {}, it must be [S, B, C, T, K]", op,
           args.shape.to_string());
  check_presence(op, args, args.shape[0], args.shape[1], args.shape[3]);
  check_dense(op, "count", args.count, DType::kF64, {args.shape[0]});
  SF_DISPATCH(ctx, mask_count, args);
}

void mask_loss(const ExecutionContext& ctx, const MaskLossArgs& args) {
  const char* op = "mask_loss";
  SF_CHECK(args.magnitude_weight >= 0 && args.complex_weight >= 0,
           "{}: magnitude_weight is {}, complex_weight {}; neither may be negative", op,
           args.magnitude_weight, args.complex_weight);
  SF_CHECK(args.compression >= 1e-3 && args.compression <= 1,
           "{}: compression is {}, not in [0.001, 1]", op, args.compression);
  SF_CHECK(args.epsilon >= 1e-15 && args.epsilon <= 1e15, "{}: epsilon is {}, not in [1e-15, 1e15]",
           op, args.epsilon);
  check_prediction(op, args);
  check_stem_spectra(op, "target", args.target, args);
  const Shape& shape = args.prediction.shape();
  check_presence(op, args, shape[0], shape[1], shape[2]);
  if (args.weight) {
    check_dense(op, "weight", args.weight, DType::kF32, {shape[1], shape[0]});
  }
  if (args.gradient) {
    check_rows(op, "gradient", args.gradient, {shape[0], shape[1], shape[2], shape[3]},
               activation_dtype(args.gradient));
  }
  check_dense(op, "count", args.count, DType::kF64, {shape[0]});
  check_dense(op, "loss", args.loss, DType::kF64, {shape[0]});
  check_dense(op, "weighted", args.weighted, DType::kF64, {shape[0]});
  SF_DISPATCH(ctx, mask_loss, args);
}

}  // namespace stemfabric
