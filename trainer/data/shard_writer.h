// Writes the shards of one split sample by sample: each goes to its place in the file at once, so
// memory does not depend on the size of a shard.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "trainer/data/dataset.h"
#include "trainer/data/snapshot_tokens.h"

namespace stemfabric {

class ShardWriter {
 public:
  struct Written {
    std::string file;
    int64_t samples = 0;
    std::string sha256;
  };

  // `folder` must exist and is private to the writer until it is renamed into place. Ids are ASCII
  // without quotes, at most 64 characters.
  ShardWriter(const std::filesystem::path& folder, int64_t tokens, int64_t features,
              int64_t outputs, int64_t shard_samples);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  void add(const std::string& id, const TokenSample& sample);
  int64_t samples() const;
  std::vector<Written> finish();  // closes the last shard

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
