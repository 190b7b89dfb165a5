#include "trainer/data/dataset.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/device/thread_pool.h"
#include "runtime/io/file.h"
#include "runtime/io/self_hash.h"
#include "trainer/data/shard.h"
#include "trainer/stems.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::vector<fs::path> list_shards(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with("shard-") && name.ends_with(".safetensors")) {
      paths.push_back(it->path());
    }
  }
  if (error) {
    throw InputError("{}: cannot be read as a data set folder ({})", folder.string(),
                     error.message());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool holds_shards(const fs::path& folder) {
  return fs::is_directory(folder) && !list_shards(folder).empty();
}

}  // namespace

Batch::Batch(int64_t capacity_, int64_t tokens, int64_t features, int64_t outputs,
             MemoryResource& memory)
    : SampleBatch(capacity_),
      inputs({capacity_, tokens, features}, DType::kF32, memory, "batch"),
      input_mask({capacity_, tokens}, DType::kU8, memory, "batch"),
      targets({capacity_, kStemCount, tokens, outputs}, DType::kF32, memory, "batch"),
      target_mask({capacity_, kStemCount, tokens, outputs}, DType::kU8, memory, "batch"),
      stem_weight({capacity_, kStemCount}, DType::kF32, memory, "batch") {
  for (Tensor* tensor : {&inputs, &input_mask, &targets, &target_mask, &stem_weight}) {
    std::memset(tensor->view().data(), 0, tensor->bytes());
  }
}

struct Dataset::State {
  std::vector<std::unique_ptr<Shard>> shards;
  std::vector<int64_t> first;  // number of each shard's first sample, and the total at the end
  std::string hash;
  double correction_factor = 1.0;
  std::array<float, kStemCount> target_factors{1, 1, 1, 1, 1, 1};

  // The shard that holds a sample, and the sample's row in it.
  std::pair<const Shard*, int64_t> locate(int64_t sample) const {
    SF_CHECK(sample >= 0 && sample < first.back(), "sample {} of {}", sample, first.back());
    const auto after = std::upper_bound(first.begin(), first.end(), sample);
    const auto shard = static_cast<std::size_t>(after - first.begin()) - 1;
    return {shards[shard].get(), sample - first[shard]};
  }
};

Dataset::Dataset(const fs::path& folder) : state_(std::make_unique<State>()) {
  const std::vector<fs::path> paths = list_shards(folder);
  if (paths.empty()) {
    throw InputError("{}: holds no shard-*.safetensors; make a data set with `stemfabric dataset`",
                     folder.string());
  }
  state_->shards.resize(paths.size());
  ThreadPool pool(static_cast<int>(std::min<std::size_t>(paths.size(), 8)));
  pool.run(static_cast<int64_t>(paths.size()), [&](int64_t i) {
    const auto k = static_cast<std::size_t>(i);
    state_->shards[k] = std::make_unique<Shard>(paths[k]);
  });

  const ShardTensors& reference = state_->shards.front()->tensors();
  state_->first.push_back(0);
  for (const auto& shard : state_->shards) {
    const ShardTensors& t = shard->tensors();
    if (t.inputs.dim(1) != reference.inputs.dim(1) || t.inputs.dim(2) != reference.inputs.dim(2) ||
        t.targets.dim(3) != reference.targets.dim(3)) {
      throw InputError(
          "{}: tensors inputs {} and targets {} disagree in T, F or out with {} and {} of {}",
          shard->path().string(), t.inputs.shape().to_string(), t.targets.shape().to_string(),
          reference.inputs.shape().to_string(), reference.targets.shape().to_string(),
          paths.front().string());
    }
    state_->first.push_back(state_->first.back() + shard->size());
  }
  state_->hash = split_hash(shard_hashes());
}

Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;

int64_t Dataset::size() const { return state_->first.back(); }
int64_t Dataset::tokens() const { return state_->shards[0]->tensors().inputs.dim(1); }
int64_t Dataset::features() const { return state_->shards[0]->tensors().inputs.dim(2); }
int64_t Dataset::outputs() const { return state_->shards[0]->tensors().targets.dim(3); }
const std::string& Dataset::hash() const { return state_->hash; }

const std::string& Dataset::id(int64_t sample) const {
  const auto [shard, row] = state_->locate(sample);
  return shard->ids()[static_cast<std::size_t>(row)];
}

void Dataset::rescale_corrections(double factor) {
  SF_CHECK(std::isfinite(factor) && factor >= 0, "correction factor {}", factor);
  state_->correction_factor = factor;
}

void Dataset::scale_targets(const std::array<float, kStemCount>& factors) {
  state_->target_factors = factors;
}

std::vector<Dataset::ShardHash> Dataset::shard_hashes() const {
  std::vector<ShardHash> hashes;
  for (const auto& shard : state_->shards) {
    hashes.push_back({shard->path().filename().string(), shard->sha256()});
  }
  return hashes;
}

namespace {

// Copies row `from` of a shard's tensor to row `to` of a batch's.
void copy_row(const ConstTensorView& source, int64_t from, Tensor& target, int64_t to) {
  const std::size_t bytes = source.bytes() / static_cast<std::size_t>(source.dim(0));
  std::memcpy(static_cast<std::byte*>(target.view().data()) + static_cast<std::size_t>(to) * bytes,
              static_cast<const std::byte*>(source.data()) + static_cast<std::size_t>(from) * bytes,
              bytes);
}

void clear_rows(Tensor& tensor, int64_t from) {
  const std::size_t row = tensor.bytes() / static_cast<std::size_t>(tensor.shape()[0]);
  const std::size_t begin = static_cast<std::size_t>(from) * row;
  std::memset(static_cast<std::byte*>(tensor.view().data()) + begin, 0, tensor.bytes() - begin);
}

}  // namespace

void Dataset::gather(std::span<const int64_t> samples, Batch& batch) const {
  const auto count = static_cast<int64_t>(samples.size());
  SF_CHECK(count <= batch.capacity, "{} samples for a batch of {}", count, batch.capacity);
  check_tensor("gather", "inputs", batch.inputs.view(), DType::kF32, {-1, tokens(), features()});
  check_tensor("gather", "targets", batch.targets.view(), DType::kF32,
               {-1, kStemCount, tokens(), outputs()});
  for (int64_t i = 0; i < count; ++i) {
    const auto [shard, row] = state_->locate(samples[static_cast<std::size_t>(i)]);
    const ShardTensors& t = shard->tensors();
    copy_row(t.inputs, row, batch.inputs, i);
    copy_row(t.input_mask, row, batch.input_mask, i);
    copy_row(t.targets, row, batch.targets, i);
    copy_row(t.target_mask, row, batch.target_mask, i);
    copy_row(t.stem_weight, row, batch.stem_weight, i);
  }
  if (state_->correction_factor != 1.0) {
    float* weight = batch.stem_weight.as<float>();
    for (int64_t i = 0; i < count * kStemCount; ++i) {
      const double raised = state_->correction_factor * (static_cast<double>(weight[i]) - 1.0);
      weight[i] = static_cast<float>(std::max(0.0, 1.0 + raised));
    }
  }
  const int64_t of_stem = tokens() * outputs();
  for (int64_t i = 0; i < count * kStemCount; ++i) {
    const float factor = state_->target_factors[static_cast<std::size_t>(i % kStemCount)];
    if (factor != 1.0F) {
      float* target = batch.targets.as<float>() + i * of_stem;
      std::for_each(target, target + of_stem, [&](float& value) { value *= factor; });
    }
  }
  for (Tensor* tensor :
       {&batch.inputs, &batch.input_mask, &batch.targets, &batch.target_mask, &batch.stem_weight}) {
    clear_rows(*tensor, count);
  }
  batch.size = count;
  batch.samples.assign(samples.begin(), samples.end());
}

std::string Dataset::name(int64_t /*epoch*/, int64_t sample) const { return id(sample); }

std::unique_ptr<SampleBatch> Dataset::make_batch(int64_t capacity, MemoryResource& memory) const {
  return std::make_unique<Batch>(capacity, tokens(), features(), outputs(), memory);
}

std::size_t Dataset::batch_bytes(int64_t capacity) const {
  return static_cast<std::size_t>(capacity * tokens() *
                                  (features() * 4 + 1 + kStemCount * outputs() * 5));
}

void Dataset::fill(int64_t epoch, std::span<const int64_t> samples, SampleBatch& batch) const {
  gather(samples, dynamic_cast<Batch&>(batch));
  batch.epoch = epoch;
}

namespace {

std::vector<float> statistics_list(const Json& input, const char* name, const fs::path& file,
                                   int64_t features) {
  const Json& list = input.is_object() && input.contains(name) ? input[name] : Json();
  if (!list.is_array() || static_cast<int64_t>(list.size()) != features) {
    throw InputError("{}: input.{} must be a list of {} numbers, one per input feature",
                     file.string(), name, features);
  }
  std::vector<float> values;
  for (const Json& entry : list) {
    const float value = entry.is_number() ? entry.get<float>() : NAN;
    if (!std::isfinite(value) || (std::string_view(name) == "scale" && value <= 0)) {
      throw InputError("{}: input.{}[{}] must be a finite{} number", file.string(), name,
                       values.size(), std::string_view(name) == "scale" ? " positive" : "");
    }
    values.push_back(value);
  }
  return values;
}

// An entry that is there; null is as good as none.
const Json* find_entry(const Json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return !object.is_object() || found == object.end() || found->is_null() ? nullptr : &*found;
}

// One shard against what the manifest says of it, which may be anything from nothing to all.
void require_listed_shard(const Json& entry, const Dataset::ShardHash& found,
                          const fs::path& folder, const fs::path& manifest,
                          const std::string& place) {
  if (!entry.is_object()) {
    throw InputError("{}: {} is no object with file and sha256", manifest.string(), place);
  }
  const Json* name = find_entry(entry, "file");
  if (name != nullptr && *name != Json(found.file)) {
    throw InputError("{}: {}.file is not {}, the shard at that place in {}", manifest.string(),
                     place, found.file, folder.string());
  }
  const Json* hash = find_entry(entry, "sha256");
  if (hash != nullptr &&
      !(hash->is_string() && same_hash(hash->get_ref<const std::string&>(), found.sha256))) {
    throw InputError(
        "{}: is not the shard that {} describes ({}.sha256); it was changed or damaged, make the "
        "data set again",
        (folder / found.file).string(), manifest.string(), place);
  }
}

// The shards in a folder against those the manifest lists for a split; a null data set: there is no
// such split.
void require_listed_shards(const Json& manifest, const char* split, const Dataset* dataset,
                           const fs::path& folder, const fs::path& file) {
  const Json* all = find_entry(manifest, "shards");
  const Json* listed = all == nullptr ? nullptr : find_entry(*all, split);
  if (listed == nullptr) {
    return;
  }
  const auto found =
      dataset != nullptr ? dataset->shard_hashes() : std::vector<Dataset::ShardHash>();
  if (!listed->is_array() || listed->size() != found.size()) {
    throw InputError("{}: shards.{} does not list the {} shards that are in the folder {}",
                     file.string(), split, found.size(), folder.string());
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    require_listed_shard((*listed)[i], found[i], folder, file,
                         fmt::format("shards.{}[{}]", split, i));
  }
}

// Where the training shards lie: a flat folder is a training split.
fs::path train_folder(const fs::path& root) { return holds_shards(root) ? root : root / "train"; }

std::array<float, kStemCount> target_scale(const Json& list, const fs::path& file) {
  std::array<float, kStemCount> scale{};
  bool good = list.is_array() && list.size() == scale.size();
  for (std::size_t s = 0; good && s < scale.size(); ++s) {
    const double value = list[s].is_number() ? list[s].get<double>() : 0.0;
    int exponent = 0;
    good = std::frexp(value, &exponent) == 0.5 && std::abs(exponent) <= kMostTargetExponent;
    scale[s] = static_cast<float>(value);
  }
  if (!good) {
    throw InputError(
        "{}: targets.scale must be a list of {} powers of two from 2^-{} to 2^{}, one per stem",
        file.string(), kStemCount, kMostTargetExponent, kMostTargetExponent - 1);
  }
  return scale;
}

void read_manifest(DatasetFolder& folder, const fs::path& file) {
  folder.manifest = read_text_file(file, 64ULL << 20);
  refuse_wrong_seal(folder.manifest, file);
  const Json manifest = Json::parse(folder.manifest, nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object()) {
    throw InputError("{}: is not a JSON object; make the data set again or remove the file",
                     file.string());
  }
  require_listed_shards(manifest, "train", &*folder.train, train_folder(folder.root), file);
  require_listed_shards(manifest, "validation", folder.validation ? &*folder.validation : nullptr,
                        folder.root / "validation", file);
  if (const Json* input = find_entry(manifest, "input")) {
    const int64_t features = folder.train->features();
    folder.statistics = InputStatistics{statistics_list(*input, "mean", file, features),
                                        statistics_list(*input, "scale", file, features)};
  }
  if (const Json* targets = find_entry(manifest, "targets")) {
    if (const Json* scale = find_entry(*targets, "scale")) {
      folder.target_scale = target_scale(*scale, file);
    }
  }
  if (const Json* weight = find_entry(manifest, "correctionWeight")) {
    const double value = weight->is_number() ? weight->get<double>() : -1.0;
    if (!(value >= 0) || !std::isfinite(value)) {
      throw InputError("{}: correctionWeight must be a number >= 0", file.string());
    }
    folder.correction_weight = value;
  }
}

}  // namespace

std::string split_hash(std::span<const Dataset::ShardHash> shards) {
  std::string text;
  for (const Dataset::ShardHash& shard : shards) {
    text += shard.file + " " + shard.sha256 + "\n";
  }
  return sha256_hex(text);
}

std::string dataset_hash(const std::string& train, const std::string& validation) {
  return sha256_hex("train " + train + "\nvalidation " + validation + "\n");
}

DatasetFolder open_dataset(const fs::path& root) {
  DatasetFolder folder;
  folder.root = root;
  if (!fs::is_directory(root)) {
    throw InputError("{}: is not a folder; expected a data set made by `stemfabric dataset`",
                     root.string());
  }
  if (!holds_shards(root) && !fs::is_directory(root / "train")) {
    throw InputError(
        "{}: is no data set: it holds neither shard-*.safetensors nor a folder train; "
        "make one with `stemfabric dataset`",
        root.string());
  }
  folder.train.emplace(train_folder(root));
  if (fs::is_directory(root / "validation")) {
    folder.validation.emplace(root / "validation");
    const Dataset& train = *folder.train;
    const Dataset& validation = *folder.validation;
    if (train.tokens() != validation.tokens() || train.features() != validation.features() ||
        train.outputs() != validation.outputs()) {
      throw InputError("{}: train and validation disagree: T, F, out are {}, {}, {} and {}, {}, {}",
                       root.string(), train.tokens(), train.features(), train.outputs(),
                       validation.tokens(), validation.features(), validation.outputs());
    }
  }
  if (const fs::path file = root / "manifest.json"; fs::exists(file)) {
    read_manifest(folder, file);
  }
  folder.hash =
      dataset_hash(folder.train->hash(), folder.validation ? folder.validation->hash() : "");
  return folder;
}

}  // namespace stemfabric
