#include "trainer/training/stem_objective.h"

#include <algorithm>

#include "kernels/stem_loss/stem_loss.h"

namespace stemfabric {
namespace {

// A batch stores [B, 6, T, out]; the loss takes the stem first.
ConstTensorView stem_first(const Tensor& tensor, int64_t rows) {
  const Shape& s = tensor.shape();
  const int64_t plane = s[2] * s[3];
  return {tensor.view().data(), tensor.dtype(), Shape{s[1], rows, s[2], s[3]},
          ConstTensorView::Strides{plane, s[1] * plane, s[3], 1}};
}

}  // namespace

ConstTensorView batch_inputs(const Batch& batch) {
  return batch.inputs.view().slice(0, 0, batch.size);
}

ConstTensorView batch_mask(const Batch& batch) {
  return batch.input_mask.view().slice(0, 0, batch.size);
}

StemObjective::StemObjective(const std::vector<double>& stem_weights, int64_t batch_capacity)
    : count_(Tensor::zeros(Shape{kStemCount}, DType::kF64)),
      ones_(Tensor::zeros(Shape{kStemCount}, DType::kF64)),
      loss_(Tensor::zeros(Shape{kStemCount}, DType::kF64)),
      weighted_(Tensor::zeros(Shape{kStemCount}, DType::kF64)),
      weight_(Shape{batch_capacity, kStemCount}, DType::kF32) {
  SF_CHECK(stem_weights.size() == kStemCount, "{} stem weights", stem_weights.size());
  std::copy(stem_weights.begin(), stem_weights.end(), stem_weights_.begin());
  std::fill_n(ones_.as<double>(), kStemCount, 1.0);
}

void StemObjective::reset() {
  for (Tensor* tensor : {&count_, &loss_, &weighted_}) {
    std::fill_n(tensor->as<double>(), kStemCount, 0.0);
  }
}

void StemObjective::count(const ExecutionContext& ctx, const Batch& batch) {
  const ConstTensorView mask = stem_first(batch.target_mask, batch.size);
  stem_count(ctx, {.target_mask = mask,
                   .key_mask = batch_mask(batch),
                   .shape = mask.shape(),
                   .count = count_.view()});
}

void StemObjective::add(const ExecutionContext& ctx, const Batch& batch,
                        const ConstTensorView& prediction, const TensorView& gradient) {
  run(ctx, batch, prediction, count_.view(), gradient);
}

void StemObjective::add_sums(const ExecutionContext& ctx, const Batch& batch,
                             const ConstTensorView& prediction) {
  count(ctx, batch);
  run(ctx, batch, prediction, ones_.view(), {});
}

void StemObjective::run(const ExecutionContext& ctx, const Batch& batch,
                        const ConstTensorView& prediction, const ConstTensorView& denominators,
                        const TensorView& gradient) {
  const auto* sample_weight = batch.stem_weight.as<float>();
  auto* weight = weight_.as<float>();
  for (int64_t i = 0; i < batch.size * kStemCount; ++i) {
    weight[i] = static_cast<float>(static_cast<double>(sample_weight[i]) *
                                   stem_weights_[static_cast<std::size_t>(i % kStemCount)]);
  }
  stem_loss(ctx, {.prediction = prediction,
                  .target = stem_first(batch.targets, batch.size),
                  .target_mask = stem_first(batch.target_mask, batch.size),
                  .key_mask = batch_mask(batch),
                  .weight = weight_.view().slice(0, 0, batch.size),
                  .count = denominators,
                  .gradient = gradient,
                  .loss = loss_.view(),
                  .weighted = weighted_.view()});
}

StemValues StemObjective::read(const Tensor& tensor) {
  StemValues values;
  std::copy_n(tensor.as<double>(), kStemCount, values.begin());
  return values;
}

LossValues StemObjective::values() const {
  LossValues loss{.stem = losses()};
  for (const double value : weighted()) {
    loss.total += value;
  }
  return loss;
}

LossValues StemObjective::mean_of_sums() const {
  LossValues mean;
  const StemValues sums = losses();
  const StemValues weighted_sums = weighted();
  const StemValues elements = counts();
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (elements[s] > 0) {
      mean.stem[s] = sums[s] / elements[s];
      mean.total += weighted_sums[s] / elements[s];
    }
  }
  return mean;
}

}  // namespace stemfabric
