// A snapshot data set that lies on the device as a whole: a batch is the numbers of its samples,
// and the device gathers their rows (kernels/gather). Nothing else of a step's data goes over the
// bus.
#pragma once

#include <memory>
#include <vector>

#include "trainer/data/dataset.h"
#include "trainer/training/batch_stage.h"

namespace stemfabric {

// Samples of a data set by number alone; `data` must outlive it and its batches.
class ResidentSource final : public SampleSource {
 public:
  explicit ResidentSource(const Dataset& data) : data_(data) {}

  const Dataset& data() const { return data_; }
  // Bytes on the device: of the data set, and of a batch's rows.
  std::size_t resident_bytes() const;
  std::size_t staged_bytes(int64_t samples) const;

  int64_t size() const override { return data_.size(); }
  int64_t tokens() const override { return data_.tokens(); }
  std::string name(int64_t epoch, int64_t sample) const override {
    return data_.name(epoch, sample);
  }
  std::unique_ptr<SampleBatch> make_batch(int64_t capacity, MemoryResource& memory) const override;
  std::size_t batch_bytes(int64_t capacity) const override;
  void fill(int64_t epoch, std::span<const int64_t> samples, SampleBatch& batch) const override;

 private:
  const Dataset& data_;
};

// Batches of the given sources, which it copies to the device when it is made.
class ResidentStage final : public BatchStage {
 public:
  // ctx must be a device's; sources must outlive the stage.
  ResidentStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights,
                const std::vector<const ResidentSource*>& sources);
  ~ResidentStage() override;
  StagedBatch put(const SampleBatch& batch) override;

 private:
  struct Table;
  struct Slot;
  void upload(const ResidentSource& source);

  std::vector<std::unique_ptr<Table>> tables_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace stemfabric
