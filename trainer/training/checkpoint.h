// Checkpoints: <folder>/step-NNNNNN/{model.safetensors, optimizer.safetensors, state.json}.
//
//   model.safetensors      the weights that training goes on with, as docs/weights.md: in the
//                          data's units (target_units.h), the blocks below in those of training
//   optimizer.safetensors  whole parameter blocks: adam.first_moment, adam.second_moment, and ema
//                          and best where there are any
//   state.json             {"sha256": H, "state": S}: H is the SHA-256 of the bytes of S; S holds
//                          the SHA-256 and size of both files, the configuration, the data's hash
//                          and the training state
// A folder appears under its name only when all of it is on the disk; any change of any byte of it
// is noticed when it is read.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "runtime/device/execution_context.h"
#include "trainer/data/dataset.h"
#include "trainer/model/parameter_table.h"
#include "trainer/training/target_units.h"
#include "trainer/training/training_state.h"

namespace stemfabric {

// What a run must have in common with a checkpoint to go on from it.
struct RunIdentity {
  std::string config_json;  // config_to_json()
  ModelConfig model;        // with all sizes
  std::string data_hash;
  int64_t ranks = 1;  // that share each step
};

// The tensors of a checkpoint, inside the running trainer, where its context has them. Empty views:
// not there.
struct CheckpointTensors {
  TensorView weights, first_moment, second_moment, ema, best;  // [block_elements] f32
};

struct Checkpoint {
  std::filesystem::path path;
  RunIdentity identity;
  std::string code_version, code_revision;
  std::string device;  // device_kind() where it was written; empty: an older version wrote it
  TrainingState state;
  bool has_best = false;
};

// "cpu" or "cuda": what rounding depends on.
std::string device_kind(const ExecutionContext& ctx);

// "step-000120"
std::string checkpoint_name(int64_t step);
// The step in the name of such a folder, -1 if it is none.
int64_t checkpoint_step(const std::filesystem::path& path);
// Complete folders of that form, oldest first; their contents are not looked at.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);

// Writes <folder>/step-<state.step>, in the place of one of the same step if there is one. IoError;
// earlier checkpoints are untouched then.
std::filesystem::path write_checkpoint(const ExecutionContext& ctx,
                                       const std::filesystem::path& folder,
                                       const RunIdentity& identity, const TrainingState& state,
                                       const ParameterTable& table,
                                       const CheckpointTensors& tensors,
                                       const InputStatistics& statistics, const TargetUnits& units);

// Reads state.json and checks both hashes and sizes. InputError that names the file and says what
// is wrong with it.
Checkpoint read_checkpoint(const std::filesystem::path& path);

// Copies the tensors in. `ema` and `best` must be given if the checkpoint has them. Returns the
// input statistics.
InputStatistics restore_tensors(const ExecutionContext& ctx, const Checkpoint& checkpoint,
                                const ParameterTable& table, const CheckpointTensors& tensors,
                                const TargetUnits& units);

// Removes all but the newest `keep`.
void prune_checkpoints(const std::filesystem::path& folder, int64_t keep);

// Keys whose values differ and matter for going on, as "training.lr is 0.01 here and 0.001 there";
// empty if the run can go on. The length of the run, threads, logging, what is written when, and
// where files lie may differ.
std::vector<std::string> differences(const RunIdentity& here, const RunIdentity& there);

}  // namespace stemfabric
