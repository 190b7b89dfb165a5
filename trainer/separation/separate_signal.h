// Six stems of a stereo signal of any length, in memory that does not grow with it.
//
// The signal is cut into chunks of as many frames as the model was trained on (chunk_plan.h). Each
// is read with kFeatureContextFrames more frames on either side, so that features and spectra are
// those of the whole signal. Where chunks overlap, the estimates' spectra are averaged by the
// chunks' weights; one inverse transform runs through the whole signal. What the model makes of a
// frame may still depend on the chunk around it, by attention and positions; a model without both
// gives the same stems for any chunk size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"
#include "trainer/model/mask_head.h"
#include "trainer/model/trained_model.h"

namespace stemfabric {

// A model of masks with what its inputs are made of.
struct SeparationModel {
  TrainedModel trained;
  AudioConfig audio;
  int64_t chunk_frames = 0;  // as trained

  const ModelConfig& config() const { return trained.config(); }
  const ExecutionContext& context() const { return trained.model->context(); }
};
// InputError if the weights are of a model without masks, or their audio settings make no spectra.
SeparationModel open_separation_model(const ExecutionContext& ctx,
                                      const std::filesystem::path& weights);

struct SeparationOptions {
  int64_t num_overlap = 2;
  // What the stems leave of the mixture is shared among them, in each bin by their energies there
  // (evenly where all are 0): their sum is the mixture.
  bool residual = false;
  double gain = 1.0;         // brings the signal to the level that the model was trained at
  int64_t chunk_frames = 0;  // 0: as trained
};

// Fills planar [2, frames] with the next frames of the signal.
using ReadFrames = std::function<void(int64_t frames, float* planar, int64_t channel_stride)>;
// Takes the next frames of the stems, [6, 2, n] f32 in host memory.
using WriteStems = std::function<void(const ConstTensorView& stems)>;

// `frames` >= 1 are read, and as many are written.
void separate_signal(SeparationModel& model, const SeparationOptions& options, int64_t frames,
                     const ReadFrames& read, const WriteStems& write);

}  // namespace stemfabric
