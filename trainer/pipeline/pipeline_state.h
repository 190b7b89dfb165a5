// pipeline.json: what a pipeline folder was made from, and the results of the stages that are done.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace stemfabric {

struct SanitizeCounts {
  int64_t accepted = 0;  // repaired ones included
  int64_t repaired = 0;
  int64_t refused = 0;
  int64_t duplicates = 0;
};

struct DatasetCounts {
  int64_t train = 0;
  int64_t validation = 0;
  int64_t without_targets = 0;  // records without a stem or whose stems supervise nothing
};

struct PipelineState {
  std::string snapshots;                        // fingerprint of the snapshot folder
  std::map<std::string, std::string> settings;  // what else the data set depends on: key -> value
  std::optional<SanitizeCounts> sanitize;       // if done
  std::string records_sha256;                   // of the records, if sanitize is done
  std::optional<DatasetCounts> dataset;
};

// Nothing if there is no such file; InputError if it is damaged.
std::optional<PipelineState> read_pipeline_state(const std::filesystem::path& file);
void write_pipeline_state(const std::filesystem::path& file, const PipelineState& state);

// Names, sizes and times of change of all files below the folder (or of one file), as a hash.
std::string fingerprint(const std::filesystem::path& folder);

}  // namespace stemfabric
