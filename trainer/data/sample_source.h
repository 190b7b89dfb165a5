// What the trainer knows of a data set, of whichever kind: numbered samples, gathered into batches.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/memory/memory_resource.h"

namespace stemfabric {

// One batch on the host. What it holds is between a source and the task that stages it.
struct SampleBatch {
  explicit SampleBatch(int64_t capacity_) : capacity(capacity_) {}
  virtual ~SampleBatch() = default;
  SampleBatch(SampleBatch&&) = default;
  SampleBatch& operator=(SampleBatch&&) = default;

  int64_t capacity;
  int64_t size = 0;
  int64_t epoch = 0;             // that the samples are of
  std::vector<int64_t> samples;  // their numbers
  int64_t first_in_step = 0;     // place of the first of them in the whole step's samples
  int64_t of_all_ranks = 0;      // samples of the micro-batch that this is a rank's share of
};

class SampleSource {
 public:
  virtual ~SampleSource() = default;

  virtual int64_t size() const = 0;             // samples in an epoch
  virtual int64_t tokens() const = 0;           // of each: the T of the model's inputs
  virtual double seconds() const { return 0; }  // of audio in each
  // For messages: what sample `sample` of an epoch is.
  virtual std::string name(int64_t epoch, int64_t sample) const = 0;

  // `memory` must be the host's, such as ExecutionContext::staging().
  virtual std::unique_ptr<SampleBatch> make_batch(int64_t capacity,
                                                  MemoryResource& memory) const = 0;
  virtual std::size_t batch_bytes(int64_t capacity) const = 0;
  // Fills the first rows of a batch that make_batch() made: a pure function of epoch and samples.
  virtual void fill(int64_t epoch, std::span<const int64_t> samples, SampleBatch& batch) const = 0;

 protected:
  SampleSource() = default;
  SampleSource(const SampleSource&) = default;
  SampleSource(SampleSource&&) = default;
  SampleSource& operator=(const SampleSource&) = default;
  SampleSource& operator=(SampleSource&&) = default;
};

}  // namespace stemfabric
