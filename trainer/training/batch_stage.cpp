#include "trainer/training/batch_stage.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace stemfabric {

BatchStage::BatchStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights)
    : ctx_(ctx) {
  SF_CHECK(stem_weights.size() == kStemCount, "{} stem weights", stem_weights.size());
  std::copy(stem_weights.begin(), stem_weights.end(), stem_weights_.begin());
  if (!ctx.is_cpu()) {
    copies_ = ctx.stream().another();
  }
}

void BatchStage::release() {
  used_ = 0;
  if (copies_ != nullptr) {
    read_[turn_] = ctx_.stream().record();
  }
  turn_ = 1 - turn_;
  if (read_[turn_] != nullptr) {
    copies_->wait(*read_[turn_]);
  }
}

ConstTensorView BatchStage::on_device(Copies& memory, const Shape& capacity,
                                      const ConstTensorView& rows) {
  if (ctx_.is_cpu()) {
    return rows;
  }
  Tensor& copy = memory[turn_];
  if (copy.bytes() < rows.bytes()) {
    copy = Tensor(capacity, rows.dtype(), ctx_.resource(), "batch");
  }
  copies_->copy(copy.view().data(), rows.data(), rows.bytes());
  ctx_.stream().follow(*copies_);
  return {copy.view().data(), rows.dtype(), rows.shape()};
}

ConstTensorView BatchStage::weights(WeightMemory& memory, const SampleBatch& batch,
                                    const float* sample_weight) {
  Tensor& host = memory.host[turn_];
  if (!host || host.elements() < batch.capacity * kStemCount) {
    host = Tensor(Shape{batch.capacity, kStemCount}, DType::kF32, ctx_.staging(), "loss weights");
  }
  auto* weight = host.as<float>();
  for (int64_t i = 0; i < batch.size * kStemCount; ++i) {
    const double of_sample = sample_weight == nullptr ? 1.0 : static_cast<double>(sample_weight[i]);
    weight[i] =
        static_cast<float>(of_sample * stem_weights_[static_cast<std::size_t>(i % kStemCount)]);
  }
  return on_device(memory.device, host.shape(), host.view().slice(0, 0, batch.size));
}

}  // namespace stemfabric
