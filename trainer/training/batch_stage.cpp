#include "trainer/training/batch_stage.h"

#include <algorithm>
#include <array>

namespace stemfabric {

struct BatchStage::Slot {
  // On the CPU what the ops read, elsewhere what is copied; in turn.
  std::array<Tensor, 2> host_weights;
  Tensor inputs, mask, targets, target_mask, weight;  // not on the CPU
};

namespace {

// The first `rows` rows of a batch's tensor.
ConstTensorView rows_of(const Tensor& tensor, int64_t rows) {
  return tensor.view().slice(0, 0, rows);
}

// A batch stores [B, 6, T, out]; the loss takes the stem first.
ConstTensorView stem_first(const ConstTensorView& rows) {
  const Shape& s = rows.shape();
  const int64_t plane = s[2] * s[3];
  return {rows.data(), rows.dtype(), Shape{s[1], s[0], s[2], s[3]},
          ConstTensorView::Strides{plane, s[1] * plane, s[3], 1}};
}

// A copy of the rows in memory of the device, which grows to that of the largest batch.
ConstTensorView on_device(const ExecutionContext& ctx, Tensor& memory, const Shape& capacity,
                          const ConstTensorView& rows) {
  if (memory.bytes() < rows.bytes()) {
    memory = Tensor(capacity, rows.dtype(), ctx.resource(), "batch");
  }
  ctx.stream().copy(memory.view().data(), rows.data(), rows.bytes());
  return {memory.view().data(), rows.dtype(), rows.shape()};
}

}  // namespace

BatchStage::BatchStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights)
    : ctx_(ctx) {
  SF_CHECK(stem_weights.size() == kStemCount, "{} stem weights", stem_weights.size());
  std::copy(stem_weights.begin(), stem_weights.end(), stem_weights_.begin());
}

BatchStage::~BatchStage() = default;

StagedBatch BatchStage::put(const Batch& batch) {
  if (used_ == slots_.size()) {
    slots_.push_back(std::make_unique<Slot>());
  }
  Slot& slot = *slots_[used_++];
  Tensor& host_weight = slot.host_weights[turn_];
  const Shape weight_shape{batch.capacity, kStemCount};
  if (host_weight.elements() < batch.capacity * kStemCount || !host_weight) {
    host_weight = Tensor(weight_shape, DType::kF32, ctx_.staging(), "loss weights");
  }
  const auto* sample_weight = batch.stem_weight.as<float>();
  auto* weight = host_weight.as<float>();
  for (int64_t i = 0; i < batch.size * kStemCount; ++i) {
    weight[i] = static_cast<float>(static_cast<double>(sample_weight[i]) *
                                   stem_weights_[static_cast<std::size_t>(i % kStemCount)]);
  }
  const int64_t rows = batch.size;
  const ConstTensorView inputs = rows_of(batch.inputs, rows);
  const ConstTensorView mask = rows_of(batch.input_mask, rows);
  const ConstTensorView targets = rows_of(batch.targets, rows);
  const ConstTensorView target_mask = rows_of(batch.target_mask, rows);
  const ConstTensorView weights = rows_of(host_weight, rows);
  if (ctx_.is_cpu()) {
    return {rows, inputs, mask, stem_first(targets), stem_first(target_mask), weights};
  }
  const auto copy = [&](Tensor& memory, const Tensor& whole, const ConstTensorView& part) {
    return on_device(ctx_, memory, whole.shape(), part);
  };
  return {.size = rows,
          .inputs = copy(slot.inputs, batch.inputs, inputs),
          .mask = copy(slot.mask, batch.input_mask, mask),
          .targets = stem_first(copy(slot.targets, batch.targets, targets)),
          .target_mask = stem_first(copy(slot.target_mask, batch.target_mask, target_mask)),
          .weight = copy(slot.weight, host_weight, weights)};
}

}  // namespace stemfabric
