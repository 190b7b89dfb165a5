#include "trainer/model/mask_head.h"

#include "kernels/stft/stft.h"
#include "runtime/core/check.h"
#include "runtime/memory/host_access.h"

namespace stemfabric {
namespace {

template <typename T>
Tensor on_device(const ExecutionContext& ctx, const std::vector<T>& values) {
  Tensor tensor(Shape{static_cast<int64_t>(values.size())}, DTypeOf<T>::value, ctx.resource(),
                "bands of masks");
  copy_from_host(ctx, tensor.view(), values.data());
  return tensor;
}

}  // namespace

int64_t mask_outputs(const ModelConfig& config) {
  const int64_t parts = config.mask == "complex" ? 2 : 1;
  return config.mask_channels * parts * config.mask_bands;
}

MaskHead::MaskHead(const ExecutionContext& ctx, const ModelConfig& config)
    : ctx_(ctx), kind_(config.mask == "complex" ? MaskKind::kComplex : MaskKind::kReal) {
  SF_CHECK(config.mask != "none" && config.audio, "a mask head for model.mask: {}", config.mask);
  const MaskBandTable table = mask_band_table(config.mask_bands, stft_bins(config.audio->n_fft));
  band_ = on_device(ctx, table.band);
  fraction_ = on_device(ctx, table.fraction);
  first_bin_ = on_device(ctx, table.first_bin);
}

void MaskHead::apply(const ConstTensorView& prediction, const ConstTensorView& mixture,
                     const TensorView& estimate) const {
  mask_apply(ctx_, {.kind = kind_,
                    .band = band_.view(),
                    .fraction = fraction_.view(),
                    .first_bin = first_bin_.view(),
                    .prediction = prediction,
                    .mixture = mixture,
                    .estimate = estimate});
}

MaskLossArgs MaskHead::loss_args(const LossConfig& loss) const {
  MaskLossArgs args;
  args.kind = kind_;
  args.magnitude_weight = loss.magnitude_weight;
  args.complex_weight = loss.complex_weight;
  args.compression = loss.compression;
  args.band = band_.view();
  args.fraction = fraction_.view();
  args.first_bin = first_bin_.view();
  return args;
}

}  // namespace stemfabric
