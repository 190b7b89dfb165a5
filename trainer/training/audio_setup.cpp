#include "trainer/training/audio_setup.h"

#include <algorithm>
#include <cmath>

#include "kernels/stft_features/feature_layout.h"
#include "kernels/stft_features/stft_features.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "trainer/device_context.h"
#include "trainer/model/mask_head.h"
#include "trainer/training/data_settings.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {
namespace {

std::string origin_of(const LoadedConfig& loaded, const TrainingSetup& setup,
                      const std::string& key) {
  if (loaded.is_set(key)) {
    return loaded.origins.at(key);
  }
  return setup.init_from.empty() ? "default" : setup.init_from.string() + " (training.init_from)";
}

void settle(const LoadedConfig& loaded, const TrainingSetup& setup, const char* name,
            int64_t& value, int64_t wanted, const std::string& because) {
  if (value == 0) {
    value = wanted;
  }
  if (value != wanted) {
    const std::string key = std::string("model.") + name;
    throw ConfigError("{}: {} is {}, but {} {}; leave it at 0", origin_of(loaded, setup, key), key,
                      value, because, wanted);
  }
}

// The data's rate is the one that counts.
void settle_audio(const LoadedConfig& loaded, int64_t sample_rate, TrainingSetup& setup) {
  AudioConfig& audio = setup.config.audio;
  if (audio.sample_rate != sample_rate && loaded.is_set("audio.sample_rate")) {
    log_warning(
        "audio.sample_rate is {} ({}), which has no effect here: the data set {} was made with {}",
        audio.sample_rate, loaded.origins.at("audio.sample_rate"), setup.data.root.string(),
        sample_rate);
  }
  audio.sample_rate = sample_rate;
  const std::optional<AudioConfig>& before = setup.model.audio;
  if (before && (before->sample_rate != audio.sample_rate || before->n_fft != audio.n_fft ||
                 before->hop_length != audio.hop_length)) {
    log_warning(
        "{} (training.init_from) was trained on spectra of {} samples every {} at {} Hz, this run "
        "has {} every {} at {} Hz: its inputs mean something else",
        setup.init_from.string(), before->n_fft, before->hop_length, before->sample_rate,
        audio.n_fft, audio.hop_length, audio.sample_rate);
  }
  setup.model.audio = audio;
}

void settle_model(const LoadedConfig& loaded, TrainingSetup& setup) {
  ModelConfig& model = setup.model;
  if (model.mask == "none") {
    throw ConfigError(
        "{}: model.mask is none, but {} is an audio data set, on which models of masks are "
        "trained; set model.mask to real or complex, as configs/audio_base.yaml does",
        origin_of(loaded, setup, "model.mask"), setup.data.root.string());
  }
  settle(loaded, setup, "input_dim", model.input_dim, kAudioFeatures,
         "the features of a frame are");
  settle(loaded, setup, "output_dim", model.output_dim, mask_outputs(model),
         "model.mask, mask_channels and mask_bands make it");
  const int64_t frames = setup.audio->train.tokens();
  if (model.max_sequence_length == 0) {
    model.max_sequence_length = frames;
  }
  if (model.max_sequence_length < frames) {
    throw ConfigError(
        "{}: model.max_sequence_length is {}, but a chunk of audio.chunk_size {} has {} frames",
        origin_of(loaded, setup, "model.max_sequence_length"), model.max_sequence_length,
        setup.config.audio.chunk_size, frames);
  }
}

}  // namespace

void prepare_audio_training(const LoadedConfig& loaded, TrainingSetup& setup) {
  AudioDatasetFolder folder = open_audio_dataset(setup.config.data.dataset_dir);
  setup.data.root = folder.root;
  setup.data.hash = folder.hash;
  setup.data.manifest = folder.manifest_text;
  take_data_settings(loaded, setup.data, setup.config);
  settle_audio(loaded, folder.manifest.sample_rate, setup);
  const AudioConfig& audio = setup.config.audio;
  setup.audio.emplace(AudioSplits{
      .train = ChunkSource(AudioDataset(std::move(folder.train), training_sampling(setup.config)),
                           audio),
      .validation = std::nullopt});
  if (!folder.validation.empty()) {
    setup.audio->validation.emplace(
        AudioDataset(std::move(folder.validation), validation_sampling(setup.config)), audio);
  }
  settle_model(loaded, setup);
}

InputStatistics audio_statistics(const ChunkSource& train, const AudioConfig& audio,
                                 int64_t threads) {
  const auto tracks = train.dataset().tracks();
  const AudioDataset chunks({tracks.begin(), tracks.end()}, {.chunk_frames = audio.chunk_size,
                                                             .sample_rate = audio.sample_rate,
                                                             .augmentations = {},
                                                             .fixed = true});
  const ExecutionContext ctx = device_context("cpu", "training.device", threads);
  AudioBatch batch = chunks.make_batch(1);
  Tensor mixture({1, kAudioChannels, chunks.chunk_frames()}, DType::kF32);
  Tensor features({1, train.tokens(), kAudioFeatures}, DType::kF32);
  const auto n = static_cast<std::size_t>(kAudioFeatures);
  std::vector<double> sum(n), squares(n), shift(n);
  const int64_t taken = std::min(chunks.size(), kStatisticsChunks);
  for (int64_t i = 0; i < taken; ++i) {
    const int64_t chunk = i * chunks.size() / taken;
    chunks.gather(std::span(&chunk, 1), 0, batch);
    chunk_mix(ctx, {.pcm = batch.pcm.view(),
                    .parts = batch.parts.view(),
                    .stems = {},
                    .mixture = mixture.view()});
    stft_features(ctx, {.signal = mixture.view(),
                        .sample_rate = audio.sample_rate,
                        .n_fft = audio.n_fft,
                        .hop_length = audio.hop_length,
                        .features = features.view(),
                        .spectra = {}});
    const float* row = features.as<float>();
    for (int64_t t = 0; t < train.tokens(); ++t, row += n) {
      for (std::size_t f = 0; f < n; ++f) {
        if (i == 0 && t == 0) {
          shift[f] = static_cast<double>(row[f]);  // near the mean: nothing cancels
        }
        const double value = static_cast<double>(row[f]) - shift[f];
        sum[f] += value;
        squares[f] += value * value;
      }
    }
  }
  constexpr double kSmallest = 1e-6;  // below it a feature is constant
  const auto count = static_cast<double>(taken * train.tokens());
  InputStatistics result;
  for (std::size_t f = 0; f < n; ++f) {
    const double mean = sum[f] / count;
    const double deviation = std::sqrt(std::max(0.0, squares[f] / count - mean * mean));
    result.mean.push_back(static_cast<float>(shift[f] + mean));
    result.scale.push_back(deviation > kSmallest ? static_cast<float>(1.0 / deviation) : 1.0F);
  }
  if (audio.feature_groups == "spectral") {
    std::fill(result.scale.begin() + kSpectralFeatures, result.scale.end(), 0.0F);
  }
  return result;
}

}  // namespace stemfabric
