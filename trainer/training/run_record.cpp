#include "trainer/training/run_record.h"

#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "runtime/io/self_hash.h"
#include "trainer/config/config_io.h"
#include "trainer/training/checkpoint.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxBytes = 16 << 20;

// Either of the two JSON files; `model_hash` is where it holds the SHA-256 of the weights.
RunRecord read_record(const fs::path& file, const char* model_hash, const std::string& weights) {
  const std::string text = read_text_file(file, kMaxBytes);
  refuse_wrong_seal(text, file);
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto word = [&](const char* pointer) -> std::string {
    const Json::json_pointer at(pointer);
    if (!json.is_object() || !json.contains(at) || !json.at(at).is_string()) {
      throw InputError("{}: has no {}", file.string(), pointer);
    }
    return json.at(at).get<std::string>();
  };
  if (word(model_hash) != weights) {
    throw InputError("{}: describes other weights than those beside it", file.string());
  }
  if (!json.contains("config") || !json["config"].is_object()) {
    throw InputError("{}: has no /config", file.string());
  }
  return {.source = file,
          .config = config_to_json(config_from_json(json["config"].dump(), file.string())),
          .code_version = word("/code_version"),
          .code_revision = word("/code_revision"),
          .data_hash = word("/data_hash")};
}

RunRecord of_checkpoint(const fs::path& folder) {
  const Checkpoint checkpoint = read_checkpoint(folder);
  const std::string& config = checkpoint.identity.config_json;
  const fs::path state = folder / "state.json";
  // Read and printed again: the keys in their usual order.
  return {.source = state,
          .config = config_to_json(config_from_json(config, state.string())),
          .code_version = checkpoint.code_version,
          .code_revision = checkpoint.code_revision,
          .data_hash = checkpoint.identity.data_hash};
}

}  // namespace

std::optional<RunRecord> find_run_record(const fs::path& weights, const std::string& sha256) {
  const fs::path folder = weights.parent_path();
  fs::path beside = weights;
  beside.replace_extension(".json");
  std::error_code error;
  try {
    if (weights.filename() == "final_model.safetensors" &&
        fs::exists(folder / "training_summary.json", error)) {
      return read_record(folder / "training_summary.json", "/final_model/sha256", sha256);
    }
    if (weights.filename() == "best_model.safetensors" && fs::exists(beside, error)) {
      return read_record(beside, "/sha256", sha256);
    }
    if (weights.filename() == "model.safetensors" && fs::exists(folder / "state.json", error)) {
      return of_checkpoint(folder);
    }
  } catch (const Error& failure) {
    log_warning("the run that made {} is not known: {}", weights.string(), failure.what());
  }
  return std::nullopt;
}

}  // namespace stemfabric
