#include "trainer/separation/separate_signal.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/stft/stft.h"
#include "kernels/stft_features/stft_features.h"
#include "runtime/core/check.h"
#include "runtime/memory/host_access.h"
#include "trainer/audio_data/audio_track.h"
#include "trainer/model/weights_file.h"
#include "trainer/separation/chunk_plan.h"
#include "trainer/separation/share_residual.h"
#include "trainer/separation/spectra_sum.h"

namespace stemfabric {
namespace {

// Frames of the signal on either side of a chunk that its features take a part of.
int64_t context_frames(const AudioConfig& audio) {
  return kFeatureContextFrames + audio.n_fft / (2 * audio.hop_length);
}

// The part [begin, end) of a signal that is read in order, as far as it moves forward; zero beyond
// the signal's end.
class SignalWindow {
 public:
  SignalWindow(int64_t frames, int64_t capacity, double gain, const ReadFrames& read)
      : read_(read),
        left_(frames),
        gain_(static_cast<float>(gain)),
        samples_(Tensor::zeros({1, kAudioChannels, capacity}, DType::kF32)) {}

  ConstTensorView move_to(int64_t begin, int64_t end) {
    const int64_t capacity = samples_.shape()[2];
    SF_CHECK(begin >= begin_ && end - begin <= capacity, "frames {} to {} of a signal", begin, end);
    const int64_t kept = std::max<int64_t>(0, end_ - begin);
    const int64_t fresh = end - begin - kept;
    const int64_t now = std::min(fresh, left_);
    for (int64_t c = 0; c < kAudioChannels; ++c) {
      float* channel = samples_.as<float>() + c * capacity;
      std::memmove(channel, channel + (begin - begin_),
                   static_cast<std::size_t>(kept) * sizeof(float));
      std::fill_n(channel + kept, fresh, 0.0F);
    }
    if (now > 0) {
      read_(now, samples_.as<float>() + kept, capacity);
      for (int64_t c = 0; c < kAudioChannels; ++c) {
        float* channel = samples_.as<float>() + c * capacity + kept;
        std::transform(channel, channel + now, channel, [&](float x) { return x * gain_; });
      }
    }
    left_ -= now;
    begin_ = begin;
    end_ = end;
    return samples_.view().slice(2, 0, end - begin);
  }

 private:
  const ReadFrames& read_;
  int64_t left_;
  float gain_;
  int64_t begin_ = 0, end_ = 0;
  Tensor samples_;
};

// What the ops of the model's context read and write, for one chunk.
class ChunkEstimator {
 public:
  ChunkEstimator(SeparationModel& model, int64_t chunk_frames)
      : model_(model), ctx_(model.context()), head_(ctx_, model.config()) {
    const AudioConfig& audio = model.audio;
    const int64_t frames = chunk_frames + 2 * context_frames(audio);
    const int64_t bins = stft_bins(audio.n_fft);
    const auto make = [&](const Shape& shape) {
      return Tensor(shape, DType::kF32, ctx_.resource(), "separation");
    };
    if (!ctx_.is_cpu()) {
      signal_ = make({1, kAudioChannels, frames * audio.hop_length});
    }
    features_ = make({1, frames, kAudioFeatures});
    spectra_ = make({1, kAudioChannels, frames, bins, 2});
    estimate_ = make({kStemCount, 1, kAudioChannels, chunk_frames, bins, 2});
  }

  // In host memory, valid until the next run.
  struct Spectra {
    ConstTensorView mixture;  // [1, 2, segment's frames, K, 2]
    TensorView stems;         // [6, 1, 2, count, K, 2]
  };
  // Of frames [first, first + count) of a segment of the signal.
  Spectra run(const ConstTensorView& segment, int64_t segment_frames, int64_t first,
              int64_t count) {
    const TensorView features = head_rows(features_, {1, segment_frames, kAudioFeatures});
    const TensorView spectra =
        head_rows(spectra_, {1, kAudioChannels, segment_frames, spectra_.shape()[3], 2});
    const TensorView estimate =
        head_rows(estimate_, {kStemCount, 1, kAudioChannels, count, spectra_.shape()[3], 2});
    stft_features(ctx_, {.signal = on_device(segment),
                         .sample_rate = model_.audio.sample_rate,
                         .n_fft = model_.audio.n_fft,
                         .hop_length = model_.audio.hop_length,
                         .features = features,
                         .spectra = spectra});
    const ConstTensorView inputs(features.as<float>() + first * kAudioFeatures,
                                 Shape{1, count, kAudioFeatures});
    const ConstTensorView prediction = model_.trained.model->forward(inputs, {}, false, {});
    head_.apply(prediction, spectra.slice(2, first, count), estimate);
    return {on_host(host_spectra_, spectra), on_host(host_estimate_, estimate)};
  }

 private:
  static TensorView head_rows(Tensor& memory, const Shape& shape) {
    return {memory.view().data(), memory.dtype(), shape};
  }
  ConstTensorView on_device(const ConstTensorView& segment) {
    if (ctx_.is_cpu()) {
      return segment;
    }
    const TensorView copy = head_rows(signal_, segment.shape());
    for (int64_t c = 0; c < kAudioChannels; ++c) {
      ctx_.stream().copy(copy.slice(1, c, 1).data(), segment.slice(1, c, 1).data(),
                         static_cast<std::size_t>(segment.dim(2)) * sizeof(float));
    }
    return copy;
  }

  TensorView on_host(Tensor& memory, const TensorView& tensor) {
    if (ctx_.is_cpu()) {
      return tensor;
    }
    if (memory.bytes() < tensor.bytes()) {
      memory = Tensor(tensor.shape(), DType::kF32, ctx_.staging(), "separation");
    }
    const TensorView copy = head_rows(memory, tensor.shape());
    copy_to_host(ctx_, copy.data(), tensor);
    return copy;
  }

  SeparationModel& model_;
  const ExecutionContext& ctx_;
  MaskHead head_;
  Tensor signal_, features_, spectra_, estimate_;
  Tensor host_spectra_, host_estimate_;  // not on the CPU
};

}  // namespace

SeparationModel open_separation_model(const ExecutionContext& ctx,
                                      const std::filesystem::path& weights) {
  const ModelConfig config = read_model_config(weights);
  if (config.mask == "none" || !config.audio) {
    throw InputError(
        "{}: is a model of snapshots, which makes no masks; give one that was trained on audio",
        weights.string());
  }
  const AudioConfig& audio = *config.audio;
  const bool sizes = std::has_single_bit(static_cast<uint64_t>(audio.n_fft)) &&
                     audio.n_fft % audio.hop_length == 0 && 4 * audio.hop_length <= audio.n_fft &&
                     config.input_dim == kAudioFeatures &&
                     config.output_dim == mask_outputs(config);
  const int64_t frames = stft_frames(audio.chunk_size, audio.hop_length);
  if (!sizes || frames > config.max_sequence_length) {
    throw InputError(
        "{}: its metadata `config` is of no model of this version: n_fft {}, hop_length {}, "
        "chunk_size {}, {} inputs, {} outputs, sequences of {}",
        weights.string(), audio.n_fft, audio.hop_length, audio.chunk_size, config.input_dim,
        config.output_dim, config.max_sequence_length);
  }
  return {.trained = open_trained_model(ctx, weights, 1, config.max_sequence_length),
          .audio = audio,
          .chunk_frames = frames};
}

void separate_signal(SeparationModel& model, const SeparationOptions& options, int64_t frames,
                     const ReadFrames& read, const WriteStems& write) {
  SF_CHECK(frames >= 1 && options.gain > 0);
  const AudioConfig& audio = model.audio;
  const int64_t hop = audio.hop_length;
  // A spectrum takes a signal longer than half of its window.
  const int64_t length = std::max(frames, audio.n_fft);
  const int64_t total = stft_frames(length, hop);
  const ChunkPlan plan(total, options.chunk_frames > 0 ? options.chunk_frames : model.chunk_frames,
                       options.num_overlap);
  const int64_t context = context_frames(audio);
  SignalWindow signal(frames, (plan.chunk_frames() + 2 * context) * hop, options.gain, read);
  ChunkEstimator estimator(model, plan.chunk_frames());
  SpectraSum sum(model.context(), audio, length, plan.chunk_frames());
  int64_t left = frames;
  for (int64_t k = 0; k < plan.chunks(); ++k) {
    const int64_t first = plan.first_frame(k);
    const int64_t begin = std::max<int64_t>(0, first - context);
    const int64_t end = std::min(total, first + plan.chunk_frames() + context);
    const int64_t end_sample = end == total ? length : (end - 1) * hop;
    const auto spectra = estimator.run(signal.move_to(begin * hop, end_sample), end - begin,
                                       first - begin, plan.chunk_frames());
    if (options.residual) {
      share_residual(spectra.mixture.slice(2, first - begin, plan.chunk_frames()), spectra.stems);
    }
    for (int64_t i = 0; i < plan.chunk_frames(); ++i) {
      sum.add(first + i, plan.weight(k, i), spectra.stems, i);
    }
    const ConstTensorView stems = sum.complete(plan.complete_after(k), 1.0 / options.gain);
    if (stems && left > 0) {
      const int64_t now = std::min(left, stems.dim(2));
      write(stems.slice(2, 0, now));
      left -= now;
    }
  }
  SF_CHECK(left == 0, "{} frames of the stems were not written", left);
}

}  // namespace stemfabric
