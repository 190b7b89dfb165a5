// What a validation measures besides the loss.
#pragma once

#include "runtime/collectives/collectives.h"
#include "runtime/core/tensor_view.h"
#include "trainer/training/batch_stage.h"

namespace stemfabric {

class OutputMetric {
 public:
  virtual ~OutputMetric() = default;
  OutputMetric(const OutputMetric&) = delete;
  OutputMetric& operator=(const OutputMetric&) = delete;

  virtual void reset() = 0;
  // prediction [6,B,T,out]; waits for the stream.
  virtual void add(const StagedBatch& batch, const ConstTensorView& prediction) = 0;
  // Adds what the other ranks measured.
  virtual void reduce(Collectives& ranks) = 0;
  // Of each stem, NaN where nothing was measured.
  virtual StemValues values() const = 0;

 protected:
  OutputMetric() = default;
};

}  // namespace stemfabric
