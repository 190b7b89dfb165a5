#include "trainer/model/trained_model.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "runtime/io/safetensors.h"
#include "runtime/memory/host_access.h"
#include "trainer/model/weights_file.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFinal = "final_model.safetensors";
constexpr const char* kCheckpoints = "checkpoints";
constexpr const char* kCheckpointWeights = "model.safetensors";

constexpr std::string_view kPrefix = "step-";

// The checkpoint of the highest step: "step-000120". Longer names are later steps.
fs::path newest_checkpoint(const fs::path& folder) {
  fs::path newest;
  std::error_code error;
  const auto later = [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() > b.size() : a > b;
  };
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const bool numbered = name.starts_with(kPrefix) && name.size() > kPrefix.size() &&
                          std::all_of(name.begin() + kPrefix.size(), name.end(),
                                      [](char c) { return c >= '0' && c <= '9'; });
    if (numbered && fs::exists(it->path() / kCheckpointWeights, error) &&
        (newest.empty() || later(name, newest.filename().string()))) {
      newest = it->path();
    }
  }
  return newest;
}

// -1 if the text is no number of a step.
int64_t to_step(std::string_view text) {
  int64_t step = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), step);
  return error == std::errc() && end == text.data() + text.size() ? step : -1;
}

// A finished run that was taken up again and interrupted keeps its old final model beside newer
// checkpoints. That it is the one in use would show nowhere else.
void warn_of_newer_checkpoint(const fs::path& final_model, const fs::path& checkpoint) {
  std::string stated;
  try {
    const SafetensorsFile file(final_model);
    const auto step = file.metadata().find("step");
    stated = step == file.metadata().end() ? "" : step->second;
  } catch (const Error&) {
    return;  // whoever reads the weights says what is wrong with the file
  }
  const int64_t made_at = to_step(stated);
  const int64_t newest = to_step(checkpoint.filename().string().substr(kPrefix.size()));
  if (made_at >= 0 && newest > made_at) {
    log_warning(
        "{} is of step {}, but the newest checkpoint there is of step {}: a longer training was "
        "not finished; run `stemfabric train` again to finish it, or name the checkpoint's {}",
        final_model.string(), made_at, newest, (checkpoint / kCheckpointWeights).string());
  }
}

void set_statistics(Separator& model, const InputStatistics& statistics) {
  copy_from_host(model.context(), model.input_mean(), statistics.mean.data());
  copy_from_host(model.context(), model.input_scale(), statistics.scale.data());
}

}  // namespace

fs::path find_weights(const fs::path& model) {
  std::error_code error;
  if (!fs::exists(model, error)) {
    throw InputError(
        "there is no model {}; give a .safetensors file or the folder of a training "
        "run",
        model.string());
  }
  if (fs::is_regular_file(model, error)) {
    return model;
  }
  if (!fs::is_directory(model, error)) {
    throw InputError(
        "{}: is a device or a pipe; give a .safetensors file or the folder of a "
        "training run",
        model.string());
  }
  const fs::path best = model / kCheckpoints / "best_model.safetensors";
  const fs::path newest = newest_checkpoint(model / kCheckpoints);
  if (fs::exists(model / kFinal, error) && !newest.empty()) {
    warn_of_newer_checkpoint(model / kFinal, newest);
  }
  for (const fs::path& file : {model / kFinal, best, model / kCheckpointWeights}) {
    if (fs::exists(file, error)) {
      return file;
    }
  }
  if (!newest.empty()) {
    return newest / kCheckpointWeights;
  }
  throw InputError(
      "the folder {} holds no model: neither {} nor a checkpoint; train one there, or "
      "give a .safetensors file",
      model.string(), kFinal);
}

fs::path run_folder_of(const fs::path& weights) {
  std::error_code error;
  fs::path folder = fs::absolute(weights, error).lexically_normal().parent_path();
  for (int level = 0; level < 3 && folder.has_relative_path(); ++level) {
    if (fs::exists(folder / "metrics.jsonl", error)) {
      return folder;
    }
    folder = folder.parent_path();
  }
  return {};
}

TrainedModel open_trained_model(const ExecutionContext& ctx, const fs::path& weights, int64_t batch,
                                int64_t tokens) {
  TrainedModel trained;
  trained.weights = weights;
  trained.sha256 = sha256_file(weights);
  trained.metadata = SafetensorsFile(weights).metadata();
  const ModelConfig config = read_model_config(weights);
  trained.model = std::make_unique<Separator>(
      ctx, config, Separator::Limits{.batch = batch, .tokens = tokens, .training = false});
  Separator& model = *trained.model;
  InputStatistics statistics;
  write_on_host(ctx, model.weights(), [&](const TensorView& host) {
    statistics = read_weights(weights, model.parameters(), host.as<float>());
  });
  set_statistics(model, statistics);
  return trained;
}

}  // namespace stemfabric
