#include <algorithm>
#include <cstring>

#include "runtime/io/file.h"
#include "runtime/io/safetensors.h"
#include "runtime/memory/buffer.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/paths.h"
#include "trainer/config/config_io.h"
#include "trainer/data/dataset.h"
#include "trainer/data/shard.h"
#include "trainer/model/weights_file.h"
#include "trainer/training/checkpoint.h"

namespace stemfabric::fuzz {
namespace {

namespace fs = std::filesystem;

ModelConfig small_model() {
  ModelConfig model;
  model.input_dim = 3;
  model.dim = 4;
  model.depth = 1;
  model.heads = 1;
  model.dim_ff = 4;
  model.output_dim = 2;
  model.max_sequence_length = 2;
  return model;
}

// ---- weights

// What the configuration in the file claims is what the file holds; written and read again the
// parameters are the same.
void read_weights_file(std::string_view bytes) {
  const fs::path path = hostile_file(".safetensors", bytes);
  const ModelConfig model = read_model_config(path);
  const ParameterTable table(model);
  SF_CHECK(static_cast<uint64_t>(table.parameter_count()) * sizeof(float) <= bytes.size());
  std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
  const InputStatistics statistics = read_weights(path, table, block.data());
  const fs::path copy = scratch_folder() / "copy.safetensors";
  write_weights(copy, model, table, block.data(), statistics, {});
  std::vector<float> again(block.size());
  SF_CHECK(model_config_to_json(read_model_config(copy)) == model_config_to_json(model));
  read_weights(copy, table, again.data());
  SF_CHECK(again == block);
}

// Without the hash over the contents, so that damage is not found by that.
std::string plain_weights(const std::string& config) {
  const ParameterTable table(small_model());
  std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
  table.initialize(block.data(), 3);
  std::vector<NamedTensor> tensors;
  for (const ParameterInfo& info : table.entries()) {
    tensors.push_back({info.name, ParameterTable::view(info, block.data())});
  }
  const std::vector<float> statistics = {1, 2, 3};
  tensors.push_back({"input.mean", ConstTensorView(statistics.data(), Shape{3})});
  tensors.push_back({"input.scale", ConstTensorView(statistics.data(), Shape{3})});
  return written(".safetensors", [&](const fs::path& path) {
    write_safetensors(path, tensors, {{"config", config}});
  });
}

std::vector<std::string> weights_seeds() {
  const std::string whole = written(".safetensors", [](const fs::path& path) {
    const ParameterTable table(small_model());
    const std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
    write_weights(path, small_model(), table, block.data(), {}, {});
  });
  return {plain_weights(model_config_to_json(small_model())), plain_weights(R"({"heads":1})"),
          whole};
}

// ---- checkpoints

// A folder with tensors that belong to no model: only their size and hash are looked at.
fs::path checkpoint_folder() {
  const fs::path folder = scratch_folder() / kSource;
  if (fs::create_directory(folder)) {
    test::put_file(folder / "model.safetensors", "weights");
    test::put_file(folder / "optimizer.safetensors", "moments");
  }
  return folder;
}

// `bytes` is the state inside state.json; the hash around it is made right.
void read_checkpoint_state(std::string_view bytes) {
  const fs::path folder = checkpoint_folder();
  test::put_file(folder / "state.json",
                 fmt::format("{{\"sha256\":\"{}\",\"state\":{}}}\n", sha256_hex(bytes), bytes));
  const Checkpoint checkpoint = read_checkpoint(folder);
  SF_CHECK(differences(checkpoint.identity, checkpoint.identity).empty());
  const std::string state = training_state_to_json(checkpoint.state);
  SF_CHECK(
      training_state_to_json(training_state_from_json(state, "the state written again")) == state,
      "{}", state);
}

std::vector<std::string> checkpoint_seeds() {
  TrainingState state;
  state.step = 12;
  state.epoch_sums.count.fill(2);
  state.history.resize(2);
  state.history[0].validation = LossValues{};
  state.history[1].validation_sdr = StemValues{};
  const auto file = [](const std::string& contents) {
    return fmt::format(R"({{"sha256":"{}","bytes":{}}})", sha256_hex(contents), contents.size());
  };
  const std::string text = fmt::format(
      R"({{"format":"stemfabric-checkpoint-1","code_version":"1","code_revision":"2",)"
      R"("device":"cpu","data_hash":"3","has_best":false,"config":{},"model":{},"training":{},)"
      R"("files":{{"model.safetensors":{},"optimizer.safetensors":{}}}}})",
      config_to_json(Config{}), model_config_to_json(small_model()), training_state_to_json(state),
      file("weights"), file("moments"));
  return {text, "{}", training_state_to_json(state)};
}

// ---- manifest.json of a data set

// A data set of one shard with two samples.
std::string write_dataset(const fs::path& folder) {
  const Tensor inputs = Tensor::zeros({2, 3, 4}, DType::kF32);
  const Tensor input_mask = Tensor::zeros({2, 3}, DType::kU8);
  const Tensor targets = Tensor::zeros({2, kStemCount, 3, 2}, DType::kF32);
  const Tensor target_mask = Tensor::zeros({2, kStemCount, 3, 2}, DType::kU8);
  const Tensor stem_weight = Tensor::zeros({2, kStemCount}, DType::kF32);
  make_directories(folder / "train");
  return write_shard(
      folder / "train" / shard_file_name(0),
      {inputs.view(), input_mask.view(), targets.view(), target_mask.view(), stem_weight.view()},
      {"a", "b"});
}

void read_dataset_manifest(std::string_view bytes) {
  const fs::path folder = scratch_folder() / "hostile-dataset";
  static const std::string kHash = write_dataset(folder);
  test::put_file(folder / "manifest.json", bytes);
  const DatasetFolder found = open_dataset(folder);
  SF_CHECK(found.train->size() == 2);
  SF_CHECK(!found.statistics || found.statistics->mean.size() == 4);
}

std::vector<std::string> dataset_manifest_seeds() {
  const std::string hash = write_dataset(scratch_folder() / "seed-dataset");
  return {R"({"format":"stemfabric-dataset","version":1,"correctionWeight":1.5,)"
          R"("input":{"mean":[0,1,2.5,-3],"scale":[1,1,2,1e-3]},)"
          R"("shards":{"train":[{"file":"shard-00000.safetensors","records":2,"sha256":")" +
              hash + R"("}],"validation":[]}})",
          "{}"};
}

}  // namespace

const FuzzTarget kWeights = {"weights", ErrorKind::kInputData, read_weights_file, weights_seeds};
const FuzzTarget kCheckpointState = {"checkpoint_state", ErrorKind::kInputData,
                                     read_checkpoint_state, checkpoint_seeds};
const FuzzTarget kDatasetManifest = {"dataset_manifest", ErrorKind::kInputData,
                                     read_dataset_manifest, dataset_manifest_seeds};

}  // namespace stemfabric::fuzz
