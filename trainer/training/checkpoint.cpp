#include "trainer/training/checkpoint.h"

#include <unistd.h>

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/io/safetensors.h"
#include "runtime/memory/host_access.h"
#include "trainer/config/config_io.h"
#include "trainer/model/weights_file.h"
#include "trainer/training/json_fields.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kFormat = "stemfabric-checkpoint-1";
constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "state.json";
constexpr std::string_view kPrefix = "step-";
constexpr uint64_t kMaxStateBytes = 64ULL << 20;
constexpr std::size_t kHashDigits = 64;
// state.json is exactly kHead + hash + kMiddle + state + kTail.
constexpr std::string_view kHead = "{\"sha256\":\"";
constexpr std::string_view kMiddle = "\",\"state\":";
constexpr std::string_view kTail = "}\n";

// Where each parameter lies: blocks are only valid for the same layout.
std::string layout_hash(const ParameterTable& table) {
  Sha256 hash;
  for (const ParameterInfo& info : table.entries()) {
    hash.update(fmt::format("{} {} {} {}\n", info.name, info.shape.to_string(), info.offset,
                            info.row_stride));
  }
  hash.update(fmt::format("{}\n", table.block_elements()));
  return hash.hex();
}

Json file_entry(const fs::path& folder, const char* name, const std::string& sha256) {
  return {{"sha256", sha256}, {"bytes", fs::file_size(folder / name)}};
}

void fill_checkpoint(const ExecutionContext& ctx, const fs::path& folder,
                     const RunIdentity& identity, const TrainingState& state,
                     const ParameterTable& table, const CheckpointTensors& tensors,
                     const InputStatistics& statistics, const TargetUnits& units) {
  const std::map<std::string, std::string> metadata = {
      {"step", std::to_string(state.step)},
      {"data_hash", identity.data_hash},
      {"code_revision", std::string(code_revision())}};
  const std::string model_hash = write_weights(
      folder / kModelFile, identity.model, table,
      units.leave(table, HostView(ctx, tensors.weights).as<float>()).data(), statistics, metadata);
  const std::array<std::pair<const char*, HostView>, 4> views = {
      {{"adam.first_moment", HostView(ctx, tensors.first_moment)},
       {"adam.second_moment", HostView(ctx, tensors.second_moment)},
       {"ema", HostView(ctx, tensors.ema)},
       {"best", HostView(ctx, tensors.best)}}};
  std::vector<NamedTensor> blocks;
  for (const auto& [name, host] : views) {
    if (host.view()) {
      blocks.push_back({name, host.view()});
    }
  }
  const std::string optimizer_hash =
      write_safetensors(folder / kOptimizerFile, blocks, {{"layout", layout_hash(table)}});

  Json json = {{"format", kFormat},
               {"step", state.step},
               {"code_version", version()},
               {"code_revision", code_revision()},
               {"device", device_kind(ctx)},
               {"config", Json::parse(identity.config_json)},
               {"model", Json::parse(model_config_to_json(identity.model))},
               {"data_hash", identity.data_hash},
               {"ranks", identity.ranks},
               {"has_best", static_cast<bool>(tensors.best)},
               {"training", Json::parse(training_state_to_json(state))},
               {"files",
                {{kModelFile, file_entry(folder, kModelFile, model_hash)},
                 {kOptimizerFile, file_entry(folder, kOptimizerFile, optimizer_hash)}}}};
  const std::string text = json.dump(1);
  write_text_file(folder / kStateFile,
                  fmt::format("{}{}{}{}{}", kHead, sha256_hex(text), kMiddle, text, kTail));
}

// Under a partial name first: a folder that is half removed is no checkpoint any more.
void remove_checkpoint(const fs::path& path) {
  fs::path doomed = path;
  doomed += fmt::format(".partial-0-{}", ::getpid());  // no writer has process 0
  fs::remove_all(doomed);
  fs::rename(path, doomed);
  fs::remove_all(doomed);
}

// The text of S, after comparing its hash.
std::string verified_state_text(const fs::path& path) {
  const std::string text = read_text_file(path, kMaxStateBytes);
  const std::size_t state_begin = kHead.size() + kHashDigits + kMiddle.size();
  const std::string_view view = text;
  if (view.size() < state_begin + kTail.size() || !view.starts_with(kHead) ||
      view.substr(kHead.size() + kHashDigits, kMiddle.size()) != kMiddle ||
      !view.ends_with(kTail)) {
    throw InputError("{}: truncated or no checkpoint state", path.string());
  }
  std::string state = text.substr(state_begin, text.size() - state_begin - kTail.size());
  if (sha256_hex(state) != view.substr(kHead.size(), kHashDigits)) {
    throw InputError("{}: damaged: its contents do not have the SHA-256 that it states",
                     path.string());
  }
  return state;
}

void verify_file(const fs::path& path, const Json& entry, const std::string& source) {
  std::error_code failure;
  const uint64_t have = fs::file_size(path, failure);
  if (failure) {
    throw InputError("{}: cannot be read: {}; the checkpoint is not whole", path.string(),
                     failure.message());
  }
  const uint64_t want = json_field<uint64_t>(entry, "bytes", source);
  if (have != want) {
    throw InputError("{}: {}: it has {} bytes and state.json says {}", path.string(),
                     have < want ? "truncated" : "another file", have, want);
  }
  if (sha256_file(path) != json_field<std::string>(entry, "sha256", source)) {
    throw InputError(
        "{}: damaged or of another checkpoint: it does not have the SHA-256 in state.json",
        path.string());
  }
}

void copy_block(const ExecutionContext& ctx, const SafetensorsFile& file, const std::string& name,
                const TensorView& to) {
  const ConstTensorView& from = file.at(name);
  if (from.dtype() != DType::kF32 || !(from.shape() == to.shape())) {
    throw InputError("{}: {} is {} {}; expected {} f32", file.path().string(), name,
                     from.shape().to_string(), dtype_name(from.dtype()), to.shape().to_string());
  }
  copy_from_host(ctx, to, from.data());
}

// "a.b.c" -> value, for every leaf of nested objects.
void flatten(const Json& json, const std::string& prefix, std::map<std::string, Json>& leaves) {
  for (const auto& [key, value] : json.items()) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    if (value.is_object()) {
      flatten(value, name, leaves);
    } else {
      leaves[name] = value;
    }
  }
}

// May differ: they do not change what a step computes. What the data keys stand for is compared by
// the data's hash, and the model's sizes after resolution.
bool may_differ(const std::string& key) {
  constexpr std::array kKeys = {"training.num_epochs",
                                "training.num_steps",
                                "training.threads",
                                "training.device",
                                "training.cuda_graph",
                                "training.resident_data",
                                "training.cudnn",
                                "training.init_from",
                                "training.checkpoint_every_steps",
                                "training.keep_checkpoints",
                                "training.max_non_finite_steps",
                                "data.dataset_dir",
                                "data.train_ratio",
                                "data.split_seed",
                                "data.snapshot_targets",
                                "data.stem_map.",
                                "distributed.",
                                "features.",
                                "validation.metrics",
                                "inference.",
                                "logging.",
                                "model."};
  return std::any_of(kKeys.begin(), kKeys.end(), [&](const std::string_view allowed) {
    return allowed.back() == '.' ? key.starts_with(allowed) : key == allowed;
  });
}

// What divides a step's samples, beside the ranks.
constexpr std::array kStepKeys = {"batch_size", "gradient_accumulation_steps"};

// Samples of a step as the configuration has them; none if it does not say so, which that of a file
// from elsewhere need not.
std::optional<int64_t> samples_per_step(const Json& config, int64_t ranks) {
  constexpr int64_t kMost = 1 << 20;
  const auto training = config.find("training");
  if (training == config.end() || ranks < 1 || ranks > kMost) {
    return std::nullopt;
  }
  int64_t samples = ranks;
  for (const char* name : kStepKeys) {
    const auto entry = training->find(name);
    if (entry == training->end() || !entry->is_number_integer()) {
      return std::nullopt;
    }
    const auto value = entry->get<int64_t>();
    if (value < 1 || value > kMost) {
      return std::nullopt;
    }
    samples *= value;
  }
  return samples;
}

// On another number of ranks a step may be divided in another way, but has the same samples.
void compare_steps(const RunIdentity& here, const RunIdentity& there, Json& ours, Json& theirs,
                   std::vector<std::string>& out) {
  if (here.ranks == there.ranks) {
    return;
  }
  const std::optional<int64_t> now = samples_per_step(ours, here.ranks);
  const std::optional<int64_t> before = samples_per_step(theirs, there.ranks);
  if (!now || !before) {
    out.push_back(
        fmt::format("it runs on {} ranks here and {} there, with unknown samples per step",
                    here.ranks, there.ranks));
    return;
  }
  if (*now != *before) {
    out.push_back(fmt::format(
        "a step has {} samples here (training.batch_size x gradient_accumulation_steps x {} ranks) "
        "and {} there (on {} ranks)",
        *now, here.ranks, *before, there.ranks));
  }
  for (Json* config : {&ours, &theirs}) {
    for (const char* name : kStepKeys) {
      config->at("training").erase(name);
    }
  }
}

void compare(const Json& here, const Json& there, const std::string& prefix, bool all_keys,
             std::vector<std::string>& out) {
  std::map<std::string, Json> ours, theirs;
  flatten(here, prefix, ours);
  flatten(there, prefix, theirs);
  for (const auto& [key, value] : ours) {
    const auto other = theirs.find(key);
    if (other != theirs.end() && other->second != value && (all_keys || !may_differ(key))) {
      out.push_back(
          fmt::format("{} is {} here and {} there", key, value.dump(), other->second.dump()));
    }
  }
}

}  // namespace

std::string device_kind(const ExecutionContext& ctx) { return ctx.is_cpu() ? "cpu" : "cuda"; }

std::string checkpoint_name(int64_t step) { return fmt::format("{}{:06}", kPrefix, step); }

int64_t checkpoint_step(const fs::path& path) {
  const std::string name = path.filename().string();
  const std::string_view digits =
      std::string_view(name).substr(std::min(kPrefix.size(), name.size()));
  if (!name.starts_with(kPrefix) || digits.empty() || digits.size() > 15 ||
      !std::all_of(digits.begin(), digits.end(),
                   [](unsigned char c) { return std::isdigit(c) != 0; })) {
    return -1;
  }
  return std::stoll(std::string(digits));
}

std::vector<fs::path> list_checkpoints(const fs::path& folder) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(folder, missing)) {
    const int64_t step = checkpoint_step(entry.path());
    if (step >= 0 && entry.is_directory()) {
      found.emplace_back(step, entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<fs::path> paths;
  for (auto& [step, path] : found) {
    paths.push_back(std::move(path));
  }
  return paths;
}

fs::path write_checkpoint(const ExecutionContext& ctx, const fs::path& folder,
                          const RunIdentity& identity, const TrainingState& state,
                          const ParameterTable& table, const CheckpointTensors& tensors,
                          const InputStatistics& statistics, const TargetUnits& units) {
  const fs::path target = folder / checkpoint_name(state.step);
  const auto fill = [&](const fs::path& temporary) {
    fill_checkpoint(ctx, temporary, identity, state, table, tensors, statistics, units);
  };
  replace_directory_atomically(target, fill);
  return target;
}

Checkpoint read_checkpoint(const fs::path& path) {
  const fs::path state_path = path / kStateFile;
  if (!fs::exists(state_path)) {
    throw InputError("{}: no checkpoint: it has no {}", path.string(), kStateFile);
  }
  const std::string text = verified_state_text(state_path);
  Checkpoint checkpoint;
  checkpoint.path = path;
  const std::string source = state_path.string();
  const Json json = parse_json_object(text, source);
  if (const auto format = json_field<std::string>(json, "format", source); format != kFormat) {
    throw InputError("{}: format '{}' is not one of this version ({})", source, format, kFormat);
  }
  for (const char* name : {kModelFile, kOptimizerFile}) {
    verify_file(path / name, json_member(json_member(json, "files", source), name, source), source);
  }
  checkpoint.identity = {
      .config_json = json_member(json, "config", source).dump(),
      .model = model_config_from_json(json_member(json, "model", source).dump(), source),
      .data_hash = json_field<std::string>(json, "data_hash", source),
      .ranks = json.contains("ranks") ? json_field<int64_t>(json, "ranks", source) : 1};
  checkpoint.code_version = json_field<std::string>(json, "code_version", source);
  checkpoint.code_revision = json_field<std::string>(json, "code_revision", source);
  if (json.contains("device")) {
    checkpoint.device = json_field<std::string>(json, "device", source);
  }
  checkpoint.has_best = json_field<bool>(json, "has_best", source);
  checkpoint.state = training_state_from_json(json_member(json, "training", source).dump(), source);
  const int64_t named = checkpoint_step(path);
  if (named >= 0 && named != checkpoint.state.step) {
    throw InputError(
        "{}: the folder's name says step {} and its state.json step {}: it was renamed",
        path.string(), named, checkpoint.state.step);
  }
  return checkpoint;
}

InputStatistics restore_tensors(const ExecutionContext& ctx, const Checkpoint& checkpoint,
                                const ParameterTable& table, const CheckpointTensors& tensors,
                                const TargetUnits& units) {
  const SafetensorsFile file(checkpoint.path / kOptimizerFile);
  const auto layout = file.metadata().find("layout");
  if (layout == file.metadata().end() || layout->second != layout_hash(table)) {
    throw InputError(
        "{}: its parameters are laid out in another way; resume with the version that wrote it, or "
        "start from its weights: training.init_from: {}",
        file.path().string(), (checkpoint.path / kModelFile).string());
  }
  copy_block(ctx, file, "adam.first_moment", tensors.first_moment);
  copy_block(ctx, file, "adam.second_moment", tensors.second_moment);
  if (tensors.ema) {
    copy_block(ctx, file, "ema", tensors.ema);
  }
  if (checkpoint.has_best) {
    copy_block(ctx, file, "best", tensors.best);
  }
  InputStatistics statistics;
  write_on_host(ctx, tensors.weights, [&](const TensorView& host) {
    statistics = read_weights(checkpoint.path / kModelFile, table, host.as<float>());
    units.enter(table, host.as<float>());
  });
  return statistics;
}

void prune_checkpoints(const fs::path& folder, int64_t keep) {
  const std::vector<fs::path> all = list_checkpoints(folder);
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < all.size(); ++i) {
    remove_checkpoint(all[i]);
  }
}

std::vector<std::string> differences(const RunIdentity& here, const RunIdentity& there) {
  std::vector<std::string> out;
  Json ours = Json::parse(here.config_json);
  Json theirs = Json::parse(there.config_json);
  compare_steps(here, there, ours, theirs, out);
  compare(ours, theirs, "", false, out);
  compare(Json::parse(model_config_to_json(here.model)),
          Json::parse(model_config_to_json(there.model)), "model", true, out);
  if (here.data_hash != there.data_hash) {
    out.push_back(fmt::format("the data's hash is {:.12} here and {:.12} there", here.data_hash,
                              there.data_hash));
  }
  return out;
}

}  // namespace stemfabric
