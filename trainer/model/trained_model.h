// A trained model ready to run: what evaluate, predict and export start from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "runtime/device/execution_context.h"
#include "trainer/model/separator.h"

namespace stemfabric {

// The weights file that a user means: the file itself, or in the folder of a training run the first
// of final_model.safetensors, checkpoints/best_model.safetensors and the newest checkpoint. Also a
// checkpoint folder. InputError that says what was looked for. Warns of checkpoints of later steps.
std::filesystem::path find_weights(const std::filesystem::path& model);
// The folder of the training run that a weights file belongs to; empty if it is in none.
std::filesystem::path run_folder_of(const std::filesystem::path& weights);

struct TrainedModel {
  std::filesystem::path weights;
  std::string sha256;
  std::map<std::string, std::string> metadata;  // of the file
  std::unique_ptr<Separator> model;

  const ModelConfig& config() const { return model->config(); }
};

// Loads weights and input statistics into a model without backward pass.
TrainedModel open_trained_model(const ExecutionContext& ctx, const std::filesystem::path& weights,
                                int64_t batch, int64_t tokens);

}  // namespace stemfabric
