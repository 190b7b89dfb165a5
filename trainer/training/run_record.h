// What a training run wrote down about a weights file of its own: training_summary.json about the
// final model, best_model.json about the best one, state.json about a checkpoint. Each holds the
// SHA-256 of the weights it speaks of, so that no other file can be taken for them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace stemfabric {

struct RunRecord {
  std::filesystem::path source;  // the file that says it
  std::string config;            // the whole configuration in effect, as JSON
  std::string code_version, code_revision, data_hash;
};

// Nothing if no record of a run lies beside these weights, or (with a warning) if it is damaged or
// speaks of other weights.
std::optional<RunRecord> find_run_record(const std::filesystem::path& weights,
                                         const std::string& weights_sha256);

}  // namespace stemfabric
