#include "trainer/training/resident_snapshots.h"

#include <algorithm>
#include <numeric>

#include "kernels/gather/gather.h"
#include "runtime/core/check.h"
#include "trainer/stems.h"
#include "trainer/training/snapshot_task.h"

namespace stemfabric {

namespace {

constexpr int64_t kUploadSamples = 64;  // at a time

struct NumberBatch : SampleBatch {
  NumberBatch(const ResidentSource& from, int64_t capacity_, MemoryResource& memory)
      : SampleBatch(capacity_),
        source(from),
        index(Shape{capacity_}, DType::kI32, memory, "sample numbers") {}
  const ResidentSource& source;
  Tensor index;  // [capacity] i32
};

// `shape` with another number of rows.
Shape with_rows(const Shape& shape, int64_t rows) {
  std::vector<int64_t> sizes(shape.dims().begin(), shape.dims().end());
  sizes[0] = rows;
  return Shape(std::span<const int64_t>(sizes));
}

}  // namespace

std::size_t ResidentSource::resident_bytes() const { return staged_bytes(data_.size()); }
std::size_t ResidentSource::staged_bytes(int64_t samples) const {
  return data_.batch_bytes(samples) +
         static_cast<std::size_t>(samples) * kStemCount * sizeof(float);
}

std::unique_ptr<SampleBatch> ResidentSource::make_batch(int64_t capacity,
                                                        MemoryResource& memory) const {
  return std::make_unique<NumberBatch>(*this, capacity, memory);
}

std::size_t ResidentSource::batch_bytes(int64_t capacity) const {
  return static_cast<std::size_t>(capacity) * sizeof(int32_t);
}

void ResidentSource::fill(int64_t epoch, std::span<const int64_t> samples,
                          SampleBatch& batch) const {
  auto& numbers = dynamic_cast<NumberBatch&>(batch);
  SF_CHECK(static_cast<int64_t>(samples.size()) <= batch.capacity, "{} samples for a batch of {}",
           samples.size(), batch.capacity);
  batch.size = static_cast<int64_t>(samples.size());
  batch.epoch = epoch;
  batch.samples.assign(samples.begin(), samples.end());
  std::ranges::transform(samples, numbers.index.as<int32_t>(), [this](int64_t sample) {
    SF_CHECK(sample >= 0 && sample < data_.size(), "sample {} of {}", sample, data_.size());
    return static_cast<int32_t>(sample);
  });
}

struct ResidentStage::Table {
  const ResidentSource* source;
  Tensor inputs, mask, targets, target_mask, weight;  // [samples, …]
};

struct ResidentStage::Slot {
  Copies index;
  Tensor inputs, mask, targets, target_mask, weight;
};

ResidentStage::ResidentStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights,
                             const std::vector<const ResidentSource*>& sources)
    : BatchStage(ctx, stem_weights) {
  for (const ResidentSource* source : sources) {
    upload(*source);
  }
}

ResidentStage::~ResidentStage() = default;

void ResidentStage::upload(const ResidentSource& source) {
  const Dataset& data = source.data();
  Batch batch(kUploadSamples, data.tokens(), data.features(), data.outputs(), ctx_.staging());
  const auto table_of = [&](const Shape& shape, DType dtype) {
    return Tensor(with_rows(shape, data.size()), dtype, ctx_.resource(), "data set");
  };
  auto table =
      std::make_unique<Table>(Table{.source = &source,
                                    .inputs = table_of(batch.inputs.shape(), DType::kF32),
                                    .mask = table_of(batch.input_mask.shape(), DType::kU8),
                                    .targets = table_of(batch.targets.shape(), DType::kF32),
                                    .target_mask = table_of(batch.target_mask.shape(), DType::kU8),
                                    .weight = table_of({kUploadSamples, kStemCount}, DType::kF32)});
  WeightMemory weight_memory;
  std::vector<int64_t> samples;
  for (int64_t first = 0; first < data.size(); first += kUploadSamples) {
    samples.resize(static_cast<std::size_t>(std::min(kUploadSamples, data.size() - first)));
    std::iota(samples.begin(), samples.end(), first);
    data.gather(samples, batch);
    const auto copy = [&](Tensor& to, const ConstTensorView& rows) {
      const TensorView part = to.view().slice(0, first, batch.size);
      ctx_.stream().copy(part.data(), rows.data(), part.bytes());
    };
    copy(table->inputs, batch.inputs.view());
    copy(table->mask, batch.input_mask.view());
    copy(table->targets, batch.targets.view());
    copy(table->target_mask, batch.target_mask.view());
    copy(table->weight, weights(weight_memory, batch, batch.stem_weight.as<float>()));
    ctx_.stream().synchronize();  // the batch is filled anew
  }
  tables_.push_back(std::move(table));
}

StagedBatch ResidentStage::put(const SampleBatch& samples) {
  const auto& batch = dynamic_cast<const NumberBatch&>(samples);
  const auto table =
      std::ranges::find_if(tables_, [&](const auto& t) { return t->source == &batch.source; });
  SF_CHECK(table != tables_.end(), "a batch of a data set that is not on the device");
  const std::size_t at = take_slot();
  if (at == slots_.size()) {
    slots_.push_back(std::make_unique<Slot>());
  }
  Slot& slot = *slots_[at];
  const ConstTensorView index =
      on_device(slot.index, batch.index.shape(), batch.index.view().slice(0, 0, batch.size));
  const auto rows = [&](Tensor& memory, const Tensor& from) -> ConstTensorView {
    const Shape shape = with_rows(from.shape(), batch.size);
    const auto needed = static_cast<std::size_t>(shape.elements()) * dtype_size(from.dtype());
    if (memory.bytes() < needed) {
      memory =
          Tensor(with_rows(from.shape(), batch.capacity), from.dtype(), ctx_.resource(), "batch");
    }
    const TensorView to(memory.view().data(), from.dtype(), shape);
    gather(ctx_, {.x = from.view(), .index = index, .y = to});
    return to;
  };
  Table& from = **table;
  return {.size = batch.size,
          .inputs = rows(slot.inputs, from.inputs),
          .mask = rows(slot.mask, from.mask),
          .weight = rows(slot.weight, from.weight),
          .targets = stem_first(rows(slot.targets, from.targets)),
          .target_mask = stem_first(rows(slot.target_mask, from.target_mask))};
}

}  // namespace stemfabric
