// Reading a data set folder: <root>/{train,validation}/shard-*.safetensors (+ manifest.json).
// Format: docs/dataset.md. Shards are memory-mapped; a sample is copied only into a batch.
//
//   tensor in a shard | shape          | dtype
//   inputs            | [N, T, F]      | f32   finite
//   input_mask        | [N, T]         | u8    1 = token present, 0 = padding
//   targets           | [N, 6, T, out] | f32   stems in the order of trainer/stems.h; finite
//   target_mask       | [N, 6, T, out] | u8    1 = element supervised, else 0
//   stem_weight       | [N, 6]         | f32   factor of the stem in the loss; finite, >= 0
// All shards of a folder agree in T, F and out. `ids` in __metadata__ is a JSON list of N strings
// (optional: "shard-00000:3" stands in). Errors are InputErrors that name file and tensor.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/memory/buffer.h"
#include "trainer/data/sample_source.h"
#include "trainer/stems.h"

namespace stemfabric {

// Mean and 1/deviation per input feature, [F] each, from the training split.
struct InputStatistics {
  std::vector<float> mean;
  std::vector<float> scale;
};

// DatasetFolder::target_scale lies from 2^-that to 2^(that - 1): weights times it stay normal
// numbers.
inline constexpr int kMostTargetExponent = 40;

// One batch on the host, in fixed buffers; rows beyond `size` are zero (masked).
struct Batch : SampleBatch {
  // `memory` must be the host's, such as ExecutionContext::staging().
  Batch(int64_t capacity, int64_t tokens, int64_t features, int64_t outputs,
        MemoryResource& memory = host_resource());
  Tensor inputs;       // [capacity, T, F] f32
  Tensor input_mask;   // [capacity, T] u8
  Tensor targets;      // [capacity, 6, T, out] f32
  Tensor target_mask;  // [capacity, 6, T, out] u8
  Tensor stem_weight;  // [capacity, 6] f32
};

class Dataset : public SampleSource {
 public:
  // `folder` holds shard-*.safetensors; samples are numbered in shard order (by file name).
  // Every value is checked here, so that gather() cannot meet a bad one.
  explicit Dataset(const std::filesystem::path& folder);
  ~Dataset() override;
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;

  int64_t size() const override;
  int64_t tokens() const override;
  int64_t features() const;
  int64_t outputs() const;
  const std::string& id(int64_t sample) const;
  const std::string& hash() const;  // SHA-256 over the shards' names and file hashes
  // Copies the named samples to the first rows of the batch, which must have the sizes of this
  // data set and room for them.
  void gather(std::span<const int64_t> samples, Batch& batch) const;

  // As a source of batches: samples are the same in every epoch, their names are their ids.
  std::string name(int64_t epoch, int64_t sample) const override;
  std::unique_ptr<SampleBatch> make_batch(int64_t capacity, MemoryResource& memory) const override;
  std::size_t batch_bytes(int64_t capacity) const override;
  void fill(int64_t epoch, std::span<const int64_t> samples, SampleBatch& batch) const override;

  // From now on gather() gives stem weights 1 + factor * (w - 1): another correction weight than
  // the one the shards were made with (DatasetFolder::correction_weight).
  void rescale_corrections(double factor);

  // From now on gather() gives targets times the factor of their stem.
  void scale_targets(const std::array<float, kStemCount>& factors);

  // File name and SHA-256 of each shard, in order.
  struct ShardHash {
    std::string file;
    std::string sha256;
  };
  std::vector<ShardHash> shard_hashes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The hashes of a split and of a whole data set, as Dataset::hash() and DatasetFolder::hash give
// them. An empty split has the empty hash.
std::string split_hash(std::span<const Dataset::ShardHash> shards);
std::string dataset_hash(const std::string& train, const std::string& validation);

// A whole data set folder. A folder that itself holds shards is taken as a training split alone;
// the manifest and the validation split may be missing.
struct DatasetFolder {
  std::filesystem::path root;
  std::optional<Dataset> train;
  std::optional<Dataset> validation;
  std::optional<InputStatistics> statistics;  // from manifest.json
  std::optional<double> correction_weight;    // from manifest.json: in stem_weight already
  // From manifest.json: powers of two near the root mean square of each stem's targets; 1 where it
  // has none.
  std::array<float, kStemCount> target_scale{1, 1, 1, 1, 1, 1};
  std::string manifest;  // its JSON text, empty if there is none
  std::string hash;      // over both splits
};
// Shards that the manifest lists must be there and have its hashes.
DatasetFolder open_dataset(const std::filesystem::path& root);

}  // namespace stemfabric
