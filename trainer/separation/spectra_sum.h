// Spectra of stems that come in overlapping chunks, averaged by weights, and their signals as far
// as they are complete: an inverse transform that runs through a signal of any length.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"
#include "trainer/config/config.h"

namespace stemfabric {

class SpectraSum {
 public:
  // Of a signal of `length` samples, whose chunks have up to `chunk_frames` frames. The inverse
  // transform runs on the CPU, also where `ctx` is a GPU's.
  SpectraSum(const ExecutionContext& ctx, const AudioConfig& audio, int64_t length,
             int64_t chunk_frames);

  // Adds weight times frame `i` of stems [6, 1, 2, T, K, 2] to the signal's frame `frame`.
  void add(int64_t frame, double weight, const ConstTensorView& stems, int64_t i);
  // No frame before `frame` gets anything more. Gives the samples that follow from them and were
  // not given before, times `factor`: [6, 2, n], valid until the next call; absent if there are
  // none.
  ConstTensorView complete(int64_t frame, double factor);

 private:
  float* row(int64_t signal, int64_t frame);
  void drop_before(int64_t frame);

  std::optional<ExecutionContext> own_ctx_;
  const ExecutionContext& ctx_;
  AudioConfig audio_;
  int64_t length_;
  int64_t reach_;               // frames on either side of one that share samples with it
  Tensor spectra_;              // [1, 12, window, K, 2]
  Tensor signal_;               // [1, 12, samples of the window]
  std::vector<double> weight_;  // of the window's frames
  int64_t base_ = 0;            // the window's first frame
  int64_t normalised_ = 0;      // frames before it are divided by their weights
  int64_t given_ = 0;           // samples
};

}  // namespace stemfabric
