// One shard of a data set: its checked tensors, and a writer for data that is in memory.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/io/safetensors.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {

// The five tensors of a shard (shapes and dtypes: dataset.h).
struct ShardTensors {
  ConstTensorView inputs;
  ConstTensorView input_mask;
  ConstTensorView targets;
  ConstTensorView target_mask;
  ConstTensorView stem_weight;
};

// An open shard: memory-mapped and wholly checked (names, dtypes, shapes that agree, finite values,
// masks of 0 and 1). Throws InputErrors that name file and tensor.
class Shard {
 public:
  explicit Shard(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return file_.path(); }
  int64_t size() const { return tensors_.inputs.dim(0); }
  const ShardTensors& tensors() const { return tensors_; }
  const std::vector<std::string>& ids() const { return ids_; }
  const std::string& sha256() const { return sha256_; }

 private:
  SafetensorsFile file_;
  ShardTensors tensors_;
  std::vector<std::string> ids_;
  std::string sha256_;
};

// "shard-00007.safetensors"
std::string shard_file_name(int64_t index);

// Writes a shard from tensors in memory (atomic). `ids` may be empty. Returns the file's SHA-256.
std::string write_shard(const std::filesystem::path& path, const ShardTensors& tensors,
                        const std::vector<std::string>& ids);

}  // namespace stemfabric
