// Training on audio: the model reads features of the mixture's frames, its outputs are masks, and
// the masked mixture is compared with the spectra of the stems.
#pragma once

#include <memory>
#include <vector>

#include "trainer/audio_data/chunk_source.h"
#include "trainer/model/mask_head.h"
#include "trainer/training/batch_stage.h"
#include "trainer/training/output_metric.h"
#include "trainer/training/stem_objective.h"
#include "trainer/training/training_task.h"

namespace stemfabric {

// Batches of an ChunkSource: chunks are mixed, and features and spectra computed, where the ops of
// the context work.
class AudioStage final : public BatchStage {
 public:
  AudioStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights,
             const AudioConfig& audio);
  ~AudioStage() override;
  StagedBatch put(const SampleBatch& batch) override;

  // Bytes of what is made of one sample.
  static std::size_t sample_bytes(const AudioConfig& audio);

 private:
  struct Slot;
  AudioConfig audio_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

// The loss of masks on spectra (kernels/stem_mask), over the stems that a sample has.
class AudioObjective final : public StemObjective {
 public:
  AudioObjective(const ExecutionContext& ctx, const ModelConfig& model, const LossConfig& loss);
  void count(const StagedBatch& batch) override;

 private:
  void run(const StagedBatch& batch, const ConstTensorView& prediction,
           const ConstTensorView& denominators, const TensorView& gradient) override;
  MaskHead head_;
  MaskLossArgs args_;
};

// The SDR of separated chunks: per stem the mean over chunks of
//   10 log10(Σ s² / Σ (s − ŝ)²) dB, over both channels and all samples of the chunk,
// of the chunks that have the stem and in which it is not kSilenceDb or more below the loudest one.
// Limited to ±kMaxSdr.
class ChunkSdr final : public OutputMetric {
 public:
  static constexpr double kSilenceDb = 60;
  static constexpr double kMaxSdr = 100;
  ChunkSdr(const ExecutionContext& ctx, const ModelConfig& model);
  void reset() override;
  void add(const StagedBatch& batch, const ConstTensorView& prediction) override;
  void reduce(Collectives& ranks) override;
  StemValues values() const override;

 private:
  const ExecutionContext& ctx_;
  AudioConfig audio_;
  MaskHead head_;
  Tensor spectra_, signal_;  // of one stem of one chunk
  StemValues sum_{}, count_{};
};

// The setup must outlive the task.
std::unique_ptr<TrainingTask> make_audio_task(const TrainingSetup& setup);

}  // namespace stemfabric
