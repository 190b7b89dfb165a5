// What a run on an audio data set trains on and with: the part of prepare_training() for it.
#pragma once

#include <optional>

#include "trainer/audio_data/chunk_source.h"
#include "trainer/config/config_io.h"
#include "trainer/data/dataset.h"

namespace stemfabric {

struct TrainingSetup;

struct AudioSplits {
  ChunkSource train;
  std::optional<ChunkSource> validation;
};

// Opens the folder and settles the model: input_dim is that of stft_features, output_dim that of
// the masks, model.audio the configuration's `audio` with the data's sample rate. Needs
// setup.config and setup.model. ConfigError if the model makes no masks or another number of
// outputs.
void prepare_audio_training(const LoadedConfig& loaded, TrainingSetup& setup);

// Mean and 1/deviation of each feature over unchanged chunks of the training split: all, or
// kStatisticsChunks spread evenly over them. A pure function of the data and of `audio`.
// Of features that audio.feature_groups leaves out, the scale is 0: the model sees zeros.
inline constexpr int64_t kStatisticsChunks = 96;
InputStatistics audio_statistics(const ChunkSource& train, const AudioConfig& audio,
                                 int64_t threads);

}  // namespace stemfabric
