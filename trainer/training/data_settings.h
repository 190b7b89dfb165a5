// The settings that a data set was made with and that its manifest states: in a training they are
// what the data are, whatever the configuration says.
#pragma once

#include "trainer/config/config_io.h"
#include "trainer/data/dataset.h"

namespace stemfabric {

// Sets data.train_ratio, data.split_seed, data.snapshot_targets and features.* of `effective` to
// what the manifest states; warns about a key that was set to something else.
void take_data_settings(const LoadedConfig& loaded, const DatasetFolder& data, Config& effective);

// Makes the stem weights those of loss.correction_weight if it is set, and leaves them as they are
// if it is not; returns the weight in effect (the default where nothing tells it).
// ConfigError if the data were made with 0, which leaves no corrections to be weighted.
double apply_correction_weight(const LoadedConfig& loaded, DatasetFolder& data);

}  // namespace stemfabric
