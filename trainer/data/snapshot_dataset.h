// `stemfabric dataset`: sanitised records in, shards and manifest out. Format: docs/dataset.md.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "trainer/data/snapshot_tokens.h"

namespace stemfabric {

struct SnapshotDatasetOptions {
  std::filesystem::path input;       // records of `stemfabric sanitize`
  std::filesystem::path output_dir;  // the data set becomes output_dir / run_label
  std::string run_label;
  double train_ratio = 0.8;
  uint64_t seed = 0;
  TokenOptions tokens;
  int64_t shard_records = 512;
  bool overwrite = false;  // replace a data set that is there
  int threads = 0;         // 0 = all cores this process may use
};

struct SnapshotDatasetSummary {
  std::filesystem::path folder;
  std::string hash;  // of all shards: what open_dataset() gives
  int64_t records = 0;
  int64_t train = 0;
  int64_t validation = 0;
  int64_t without_stems = 0;    // records without a stem: no training pair
  int64_t without_targets = 0;  // records whose stems supervise nothing
  int64_t dropped_values = 0;   // target values without a place
  bool moved_one = false;       // one record changed sides so that none is empty
  int64_t tokens = 0;
  int64_t features = 0;
  int64_t outputs = 0;
};

// Streams; memory does not depend on the number of records. The folder appears whole or not at all.
// Throws InputErrors that name file, line and field; UsageErrors for a target that is in use.
SnapshotDatasetSummary build_snapshot_dataset(const SnapshotDatasetOptions& options);

}  // namespace stemfabric
