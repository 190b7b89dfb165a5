#include "trainer/training/audio_task.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/istft/istft.h"
#include "kernels/stft/stft.h"
#include "kernels/stft_features/stft_features.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/memory/host_access.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {

struct AudioStage::Slot {
  WeightMemory weight;
  Tensor mixture, stems, features, mixture_spectra, stem_spectra;
  Copies pcm, parts, presence;  // not on the CPU
};

namespace {

// [B, 6·2, T, K, 2] as [6, B, 2, T, K, 2].
ConstTensorView stem_first(const ConstTensorView& spectra) {
  const Shape& s = spectra.shape();
  const int64_t plane = s[2] * s[3] * s[4];
  return {
      spectra.data(), spectra.dtype(), Shape{kStemCount, s[0], kAudioChannels, s[2], s[3], s[4]},
      ConstTensorView::Strides{kAudioChannels * plane, s[1] * plane, plane, s[3] * s[4], s[4], 1}};
}

// The first rows of a tensor that grows to `capacity` rows.
TensorView first_rows(const ExecutionContext& ctx, Tensor& memory, const Shape& capacity,
                      int64_t rows, const char* purpose) {
  if (!memory || memory.elements() < capacity.elements()) {
    memory = Tensor(capacity, DType::kF32, ctx.resource(), purpose);
  }
  return memory.view().slice(0, 0, rows);
}

void log_split(const char* name, const ChunkSource& source) {
  const auto tracks = source.dataset().tracks();
  std::string stems;
  for (int s = 0; s < kStemCount; ++s) {
    const auto with = std::count_if(tracks.begin(), tracks.end(),
                                    [&](const auto& track) { return track->present(s); });
    stems +=
        fmt::format("{}{} {}", s == 0 ? "" : ", ", kStemNames[static_cast<std::size_t>(s)], with);
    if (with == 0) {
      log_warning("{}: no track has the stem {}: {}", name, kStemNames[static_cast<std::size_t>(s)],
                  std::string_view(name) == "training" ? "its head learns nothing"
                                                       : "its loss is reported as 0");
    }
  }
  log_info("{}: {} tracks, {} chunks of {:.2f} s per epoch; tracks with {}", name, tracks.size(),
           source.size(), source.seconds(), stems);
}

class AudioTask final : public TrainingTask {
 public:
  explicit AudioTask(const TrainingSetup& setup) : setup_(setup) {}

  const SampleSource& train() const override { return setup_.train(); }
  const SampleSource* validation() const override { return setup_.validation(); }
  std::unique_ptr<BatchStage> make_stage(const ExecutionContext& ctx) const override {
    return std::make_unique<AudioStage>(ctx, setup_.config.loss.stem_weights, setup_.config.audio);
  }
  std::unique_ptr<StemObjective> make_objective(const ExecutionContext& ctx) const override {
    return std::make_unique<AudioObjective>(ctx, setup_.model, setup_.config.loss);
  }
  std::unique_ptr<OutputMetric> make_metric(const ExecutionContext& ctx) const override {
    return setup_.config.validation.metrics == "sdr" ? std::make_unique<ChunkSdr>(ctx, setup_.model)
                                                     : nullptr;
  }
  std::size_t staged_bytes(int64_t samples, bool on_cpu) const override {
    // Of batches, one is copied beside the step.
    return static_cast<std::size_t>(samples) * AudioStage::sample_bytes(setup_.config.audio) +
           (on_cpu ? 0 : 2 * batch_bytes(samples));
  }
  void log_audit() const override {
    log_split("training", setup_.audio->train);
    if (setup_.audio->validation) {
      log_split("validation", *setup_.audio->validation);
    }
  }

 private:
  const TrainingSetup& setup_;
};

}  // namespace

AudioStage::AudioStage(const ExecutionContext& ctx, const std::vector<double>& stem_weights,
                       const AudioConfig& audio)
    : BatchStage(ctx, stem_weights), audio_(audio) {}

AudioStage::~AudioStage() = default;

StagedBatch AudioStage::put(const SampleBatch& samples) {
  const AudioBatch& batch = dynamic_cast<const ChunkBatch&>(samples).audio;
  const std::size_t at = take_slot();
  if (at == slots_.size()) {
    slots_.push_back(std::make_unique<Slot>());
  }
  Slot& slot = *slots_[at];
  const auto first = [&](Copies& memory, const Tensor& whole, int64_t size) {
    return on_device(memory, whole.shape(), whole.view().slice(0, 0, size));
  };
  const int64_t n = batch.frames;
  const int64_t frames = stft_frames(n, audio_.hop_length);
  const int64_t bins = stft_bins(audio_.n_fft);
  const int64_t signals = kStemCount * kAudioChannels;
  const auto grown = [&](Tensor& memory, const Shape& capacity, const char* purpose) {
    return first_rows(ctx_, memory, capacity, batch.size, purpose);
  };
  const TensorView mixture =
      grown(slot.mixture, {batch.capacity, kAudioChannels, n}, "batch mixture");
  const TensorView stems =
      grown(slot.stems, {batch.capacity, kStemCount, kAudioChannels, n}, "batch stems");
  const TensorView features =
      grown(slot.features, {batch.capacity, frames, kAudioFeatures}, "features");
  const TensorView mixture_spectra =
      grown(slot.mixture_spectra, {batch.capacity, kAudioChannels, frames, bins, 2}, "spectra");
  const TensorView stem_spectra =
      grown(slot.stem_spectra, {batch.capacity, signals, frames, bins, 2}, "spectra");
  const ConstTensorView used = first(slot.pcm, batch.pcm, batch.pcm_bytes);
  chunk_mix(ctx_, {.pcm = {used.data(), DType::kU8, batch.pcm.shape()},
                   .parts = first(slot.parts, batch.parts, batch.size),
                   .stems = stems,
                   .mixture = mixture});
  stft_features(ctx_, {.signal = mixture,
                       .sample_rate = audio_.sample_rate,
                       .n_fft = audio_.n_fft,
                       .hop_length = audio_.hop_length,
                       .features = features,
                       .spectra = mixture_spectra});
  stft(ctx_, {.signal = stems.reshape({batch.size, signals, n}),
              .n_fft = audio_.n_fft,
              .hop_length = audio_.hop_length,
              .spectra = stem_spectra});
  return {.size = batch.size,
          .inputs = features,
          .mask = {},
          .weight = weights(slot.weight, samples, nullptr),
          .targets = stem_first(stem_spectra),
          .target_mask = {},
          .mixture = mixture_spectra,
          .present = first(slot.presence, batch.presence, batch.size),
          .signals = stems};
}

std::size_t AudioStage::sample_bytes(const AudioConfig& audio) {
  const int64_t frames = stft_frames(audio.chunk_size, audio.hop_length);
  const int64_t signals = kAudioChannels * (1 + kStemCount);
  const int64_t spectra = signals * frames * stft_bins(audio.n_fft) * 2;
  const int64_t samples = signals * audio.chunk_size;
  return static_cast<std::size_t>(samples + frames * kAudioFeatures + spectra) * sizeof(float);
}

AudioObjective::AudioObjective(const ExecutionContext& ctx, const ModelConfig& model,
                               const LossConfig& loss)
    : StemObjective(ctx), head_(ctx, model), args_(head_.loss_args(loss)) {}

void AudioObjective::count(const StagedBatch& batch) {
  const Shape& s = batch.targets.shape();
  mask_count(ctx_, {.presence = batch.present,
                    .key_mask = batch.mask,
                    .shape = Shape{s[0], s[1], s[2], s[3], s[4]},
                    .count = counts()});
}

void AudioObjective::run(const StagedBatch& batch, const ConstTensorView& prediction,
                         const ConstTensorView& denominators, const TensorView& gradient) {
  MaskLossArgs args = args_;
  args.prediction = prediction;
  args.mixture = batch.mixture;
  args.target = batch.targets;
  args.presence = batch.present;
  args.key_mask = batch.mask;
  args.weight = batch.weight;
  args.count = denominators;
  args.gradient = gradient;
  args.loss = loss_sums();
  args.weighted = weighted_sums();
  mask_loss(ctx_, args);
}

ChunkSdr::ChunkSdr(const ExecutionContext& ctx, const ModelConfig& model)
    : ctx_(ctx), audio_(*model.audio), head_(ctx, model) {}

void ChunkSdr::reset() {
  sum_ = {};
  count_ = {};
}

void ChunkSdr::add(const StagedBatch& batch, const ConstTensorView& prediction) {
  const int64_t n = batch.signals.dim(3);
  const Shape& spectra = batch.mixture.shape();
  if (!spectra_) {
    spectra_ = Tensor({1, 1, spectra[1], spectra[2], spectra[3], 2}, DType::kF32, ctx_.resource(),
                      "estimate");
    signal_ = Tensor({1, kAudioChannels, n}, DType::kF32, ctx_.resource(), "estimate");
  }
  const HostView present(ctx_, batch.present);
  const HostView signals(ctx_, batch.signals);
  for (int64_t b = 0; b < batch.size; ++b) {
    const float* stems = signals.as<float>() + b * kStemCount * kAudioChannels * n;
    const auto energy = [&](int64_t s, const float* estimate) {
      double sum = 0;
      for (int64_t i = 0; i < kAudioChannels * n; ++i) {
        const double x = static_cast<double>(stems[s * kAudioChannels * n + i]) -
                         (estimate == nullptr ? 0.0 : static_cast<double>(estimate[i]));
        sum += x * x;
      }
      return sum;
    };
    StemValues energies{};
    for (std::size_t s = 0; s < kStemCount; ++s) {
      energies[s] = energy(static_cast<int64_t>(s), nullptr);
    }
    const double loudest = *std::max_element(energies.begin(), energies.end());
    for (std::size_t s = 0; s < kStemCount; ++s) {
      const auto stem = static_cast<int64_t>(s);
      const bool has = present.as<uint8_t>()[b * kStemCount + stem] != 0;
      if (!has || energies[s] <= loudest * std::pow(10.0, -kSilenceDb / 10)) {
        continue;
      }
      head_.apply(prediction.slice(0, stem, 1).slice(1, b, 1), batch.mixture.slice(0, b, 1),
                  spectra_.view());
      istft(ctx_, {.spectra = spectra_.view().reshape({1, spectra[1], spectra[2], spectra[3], 2}),
                   .n_fft = audio_.n_fft,
                   .hop_length = audio_.hop_length,
                   .signal = signal_.view()});
      const HostView estimate(ctx_, signal_.view());
      const double error = energy(stem, estimate.as<float>());
      sum_[s] += std::clamp(10 * std::log10(energies[s] / error), -kMaxSdr, kMaxSdr);
      count_[s] += 1;
    }
  }
}

void ChunkSdr::reduce(Collectives& ranks) {
  std::array<double, 2 * kStemCount> sums{};
  std::ranges::copy(sum_, sums.begin());
  std::ranges::copy(count_, sums.begin() + kStemCount);
  ranks.all_reduce(sums, "SDR of the validation");
  std::copy_n(sums.begin(), kStemCount, sum_.begin());
  std::copy_n(sums.begin() + kStemCount, kStemCount, count_.begin());
}

StemValues ChunkSdr::values() const {
  StemValues values;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    values[s] = count_[s] > 0 ? sum_[s] / count_[s] : std::numeric_limits<double>::quiet_NaN();
  }
  return values;
}

std::unique_ptr<TrainingTask> make_audio_task(const TrainingSetup& setup) {
  return std::make_unique<AudioTask>(setup);
}

}  // namespace stemfabric
