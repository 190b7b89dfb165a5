// What a run trains on and with: data set, model sizes, input statistics, initial weights.
#pragma once

#include <filesystem>
#include <optional>

#include "trainer/config/config_io.h"
#include "trainer/data/dataset.h"
#include "trainer/model/parameter_table.h"
#include "trainer/training/audio_setup.h"
#include "trainer/training/target_units.h"

namespace stemfabric {

struct TrainingSetup {
  DatasetFolder data;                // of an audio data set: root, hash and manifest alone
  std::optional<AudioSplits> audio;  // of one of snapshots: absent
  ModelConfig model;                 // all sizes set
  Config config;  // what is in effect: with this model, and with what the data set is made of
  InputStatistics statistics;
  TargetUnits units;  // of snapshots' targets, and so of the model's answers in training
  std::filesystem::path init_from;  // empty: random weights

  const SampleSource& train() const;
  const SampleSource* validation() const;  // null: there is none
};

// Opens data.dataset_dir and settles the model. Keys of `model` that the configuration does not set
// come from the metadata of training.init_from if that is given; sizes still open come from the
// data set. Statistics: those of init_from (identity if it has none), else of the data set's
// manifest or audio (audio_statistics(), on so many threads; 0: training.threads), else identity.
// ConfigError that names both sides of a conflict.
TrainingSetup prepare_training(const LoadedConfig& config, int64_t threads = 0);

// Fills the block: from init_from, or at random from training.seed.
void initialise_weights(const TrainingSetup& setup, const ParameterTable& table, uint64_t seed,
                        float* block);

}  // namespace stemfabric
