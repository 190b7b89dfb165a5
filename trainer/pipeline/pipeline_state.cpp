#include "trainer/pipeline/pipeline_state.h"

#include <fmt/core.h>

#include <array>
#include <nlohmann/json.hpp>
#include <system_error>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/io/self_hash.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
constexpr std::string_view kFormat = "stemfabric-pipeline-2";
constexpr uint64_t kMaxBytes = 1 << 20;

Json to_json(const SanitizeCounts& counts) {
  return {{"accepted", counts.accepted},
          {"repaired", counts.repaired},
          {"refused", counts.refused},
          {"duplicates", counts.duplicates}};
}

Json to_json(const DatasetCounts& counts) {
  return {{"train", counts.train},
          {"validation", counts.validation},
          {"without_targets", counts.without_targets}};
}

SanitizeCounts sanitize_from(const Json& json) {
  return {.accepted = json.at("accepted").get<int64_t>(),
          .repaired = json.at("repaired").get<int64_t>(),
          .refused = json.at("refused").get<int64_t>(),
          .duplicates = json.at("duplicates").get<int64_t>()};
}

DatasetCounts dataset_from(const Json& json) {
  return {.train = json.at("train").get<int64_t>(),
          .validation = json.at("validation").get<int64_t>(),
          .without_targets = json.at("without_targets").get<int64_t>()};
}

[[noreturn]] void throw_damaged(const fs::path& file) {
  throw InputError("{} is damaged; use another --run-label, or remove the folder", file.string());
}

// One file's line in the fingerprint.
std::string file_line(const fs::path& name, const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  const auto time = fs::last_write_time(file, error).time_since_epoch().count();
  return fmt::format("{}\n{} {}", name.string(), error ? 0 : size, error ? 0 : time);
}

}  // namespace

std::optional<PipelineState> read_pipeline_state(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) {
    return std::nullopt;
  }
  try {
    const std::string text = read_text_file(file, kMaxBytes);
    const Json json = Json::parse(text);
    if (json.at("format") != kFormat) {
      throw InputError("{} is not of the format {}; use another --run-label", file.string(),
                       kFormat);
    }
    if (check_seal(text) != Seal::kRight) {
      throw_damaged(file);
    }
    PipelineState state;
    state.snapshots = json.at("snapshots").get<std::string>();
    state.settings = json.at("settings").get<std::map<std::string, std::string>>();
    const Json& stages = json.at("stages");
    if (stages.contains("sanitize")) {
      state.sanitize = sanitize_from(stages.at("sanitize"));
      state.records_sha256 = stages.at("sanitize").at("records_sha256").get<std::string>();
    }
    if (stages.contains("dataset")) {
      state.dataset = dataset_from(stages.at("dataset"));
    }
    return state;
  } catch (const Json::exception&) {
    throw_damaged(file);
  }
}

void write_pipeline_state(const fs::path& file, const PipelineState& state) {
  Json stages = Json::object();
  if (state.sanitize) {
    stages["sanitize"] = to_json(*state.sanitize);
    stages["sanitize"]["records_sha256"] = state.records_sha256;
  }
  if (state.dataset) {
    stages["dataset"] = to_json(*state.dataset);
  }
  const Json json = {{"format", kFormat},
                     {"snapshots", state.snapshots},
                     {"settings", state.settings},
                     {"stages", stages},
                     {kSelfHashKey, self_hash_placeholder()}};
  write_text_file(file, seal_text(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"));
}

std::string fingerprint(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return sha256_hex(file_line(folder.filename(), folder));
  }
  // The order in which a folder lists its files means nothing: combine them by addition.
  std::array<uint64_t, 4> sum{};
  int64_t files = 0;
  const auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator it(folder, options, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;
    if (!it->is_regular_file(ignored)) {
      continue;
    }
    const std::string hash = sha256_hex(file_line(it->path().lexically_relative(folder), *it));
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += std::stoull(hash.substr(16 * i, 16), nullptr, 16);
    }
    ++files;
  }
  if (error) {
    throw IoError("cannot list {}: {}", folder.string(), error.message());
  }
  return sha256_hex(fmt::format("{} {:x} {:x} {:x} {:x}", files, sum[0], sum[1], sum[2], sum[3]));
}

}  // namespace stemfabric
