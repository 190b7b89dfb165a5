// The folder of one training run: its layout, its lock, and what a killed run left half-written.
// Layout: docs/training.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "runtime/io/folder_lock.h"

namespace stemfabric {

class RunDirectory {
 public:
  // Creates the folder if needed, takes the lock (an IoError that names the holder if another
  // trainer has it) and removes partial files of killed runs.
  explicit RunDirectory(const std::filesystem::path& root);
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path checkpoints() const { return root_ / "checkpoints"; }
  std::filesystem::path report() const { return root_ / "report.html"; }
  std::filesystem::path best_model() const { return checkpoints() / "best_model.safetensors"; }
  std::filesystem::path metrics() const { return root_ / "metrics.jsonl"; }
  std::filesystem::path epoch_metrics() const { return root_ / "epochs.jsonl"; }
  std::filesystem::path tensorboard() const { return root_ / "tensorboard"; }
  std::filesystem::path final_model() const { return root_ / "final_model.safetensors"; }

  // Moves what an earlier run left here into previous-1, previous-2, …; returns that folder, empty
  // if there was nothing.
  std::filesystem::path set_aside_earlier_run();
  // The same for checkpoints of later steps than the one a run goes on from (damaged ones, or all
  // when an earlier one was named), so that they are not taken for newer ones of this run.
  void set_aside_checkpoints_after(int64_t step);

 private:
  std::filesystem::path new_aside_folder() const;
  void remove_partial_files(const std::filesystem::path& folder);
  std::filesystem::path root_;
  std::optional<FolderLock> lock_;
};

}  // namespace stemfabric
