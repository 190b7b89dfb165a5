#include "trainer/model/weights_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "runtime/io/file.h"
#include "runtime/io/safetensors.h"
#include "tests/support/paths.h"
#include "trainer/config/config_io.h"

namespace stemfabric::test {
namespace {

ModelConfig small_config() {
  ModelConfig c;
  c.input_dim = 5;
  c.dim = 8;
  c.depth = 2;
  c.heads = 2;
  c.dim_ff = 12;
  c.output_dim = 3;
  c.max_sequence_length = 6;
  c.attention.activation = "superposition";
  c.attention.beta = 0.25;
  return c;
}

// The tensors of a model as a file that a test can spoil before it is written.
class WeightsFile : public testing::Test {
 protected:
  WeightsFile() : block_(static_cast<std::size_t>(table_.block_elements())) {
    table_.initialize(block_.data(), 3);
    for (const ParameterInfo& p : table_.entries()) {
      tensors_[p.name] = ParameterTable::view(p, block_.data());
    }
    metadata_["config"] = model_config_to_json(config_);
  }
  void write() {
    std::vector<NamedTensor> list;
    for (const auto& [name, view] : tensors_) {
      list.push_back({name, view});
    }
    write_safetensors(path_, list, metadata_);
  }
  void rename(const std::string& from, const std::string& to) {
    auto node = tensors_.extract(from);
    node.key() = to;
    tensors_.insert(std::move(node));
  }
  std::string refusal() {
    write();
    try {
      const ModelConfig config = read_model_config(path_);
      std::vector<float> block(block_.size());
      read_weights(path_, ParameterTable(config), block.data());
    } catch (const InputError& e) {
      return e.what();
    }
    return "accepted";
  }
  void expect_refusal(const std::vector<std::string>& parts) {
    const std::string message = refusal();
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
    }
    EXPECT_NE(message.find(path_.string()), std::string::npos) << message;
  }

  TempDir dir_;
  std::filesystem::path path_ = dir_ / "w.safetensors";
  ModelConfig config_ = small_config();
  ParameterTable table_{config_};
  std::vector<float> block_;
  std::map<std::string, ConstTensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

TEST_F(WeightsFile, GivesBackWhatWasWritten) {
  const InputStatistics statistics{.mean = {1, 2, 3, 4, 5}, .scale = {5, 4, 3, 2, 1}};
  const std::string hash =
      write_weights(path_, config_, table_, block_.data(), statistics, {{"step", "12"}});
  EXPECT_EQ(hash, sha256_file(path_));
  const ModelConfig config = read_model_config(path_);
  EXPECT_EQ(model_config_to_json(config), model_config_to_json(config_));
  std::vector<float> block(block_.size(), NAN);
  const InputStatistics read = read_weights(path_, ParameterTable(config), block.data());
  EXPECT_EQ(block, block_);
  EXPECT_EQ(read.mean, statistics.mean);
  EXPECT_EQ(read.scale, statistics.scale);
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.metadata().at("step"), "12");
  EXPECT_EQ(file.at("blocks.1.attn.k.kernel").shape(), (Shape{8, 8}));
}

TEST_F(WeightsFile, WithoutStatisticsReadsAsIdentity) {
  write_weights(path_, config_, table_, block_.data(), {}, {});
  std::vector<float> block(block_.size());
  const InputStatistics read = read_weights(path_, table_, block.data());
  EXPECT_EQ(read.mean, std::vector<float>(5, 0.0f));
  EXPECT_EQ(read.scale, std::vector<float>(5, 1.0f));
}

TEST_F(WeightsFile, PreNormAndOtherPositionsHaveTheirOwnTensors) {
  for (const char* positions : {"rotary", "none"}) {
    ModelConfig c = config_;
    c.norm_placement = "pre";
    c.positions = positions;
    const ParameterTable table(c);
    std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
    table.initialize(block.data(), 1);
    write_weights(path_, c, table, block.data(), {}, {});
    const SafetensorsFile file(path_);
    EXPECT_TRUE(file.contains("final_norm.gamma"));
    EXPECT_FALSE(file.contains("pos"));
    EXPECT_EQ(model_config_to_json(read_model_config(path_)), model_config_to_json(c));
  }
}

TEST_F(WeightsFile, ReadsNumberedHeads) {
  for (std::size_t s = 0; s < kStemCount; ++s) {
    for (const char* part : {".hidden.kernel", ".hidden.bias", ".out.kernel", ".out.bias"}) {
      rename(fmt::format("heads.{}{}", kStemNames[s], part), fmt::format("heads.{}{}", s, part));
    }
  }
  write();
  std::vector<float> block(block_.size());
  read_weights(path_, ParameterTable(read_model_config(path_)), block.data());
  EXPECT_EQ(block, block_);
}

TEST_F(WeightsFile, TakesMissingSizesFromTheTensors) {
  metadata_["config"] = R"({"heads": 2, "attention": {"activation": "softmax"}})";
  write();
  const ModelConfig c = read_model_config(path_);
  EXPECT_EQ(c.input_dim, 5);
  EXPECT_EQ(c.dim, 8);
  EXPECT_EQ(c.depth, 2);
  EXPECT_EQ(c.dim_ff, 12);
  EXPECT_EQ(c.output_dim, 3);
  EXPECT_EQ(c.max_sequence_length, 6);
  EXPECT_EQ(c.attention.activation, "softmax");
}

TEST_F(WeightsFile, RefusesWhatIsNotAWeightsFile) {
  metadata_.clear();
  expect_refusal({"no `config` entry"});
  metadata_["config"] = "{\"dim\": \"wide\"}";
  expect_refusal({"dim"});
  metadata_["config"] = R"({"heads": 3})";
  expect_refusal({"do not divide"});
  metadata_["config"] = R"({"heads": 64, "dim": 4096})";  // claims more than it holds
  expect_refusal({"[5, 4096]"});
  metadata_["config"] = "[[[[";
  EXPECT_NE(refusal(), "accepted");
}

TEST_F(WeightsFile, RefusesMissingTensors) {
  tensors_.erase("blocks.1.ln2.beta");
  expect_refusal({"'blocks.1.ln2.beta'", "missing"});
}

TEST_F(WeightsFile, RefusesExtraTensors) {
  tensors_["blocks.2.ln2.beta"] = tensors_["blocks.1.ln2.beta"];
  expect_refusal({"'blocks.2.ln2.beta'", "does not belong"});
}

TEST_F(WeightsFile, RefusesAHeadThatIsThereTwice) {
  tensors_["heads.0.out.bias"] = tensors_["heads.vocals.out.bias"];
  expect_refusal({"'heads.0.out.bias'", "does not belong"});
}

TEST_F(WeightsFile, RefusesWrongShapesAndTypes) {
  tensors_["input.bias"] = ConstTensorView(block_.data(), Shape{7});
  expect_refusal({"'input.bias'", "[7]", "[8]"});
  const std::vector<double> wide(8);
  tensors_["input.bias"] = ConstTensorView(wide.data(), Shape{8});
  expect_refusal({"'input.bias'", "f64"});
}

TEST_F(WeightsFile, RefusesValuesThatAreNotNumbers) {
  block_[static_cast<std::size_t>(table_.find("blocks.0.attn.k.kernel").offset)] = NAN;
  expect_refusal({"'blocks.0.attn.k.kernel'", "nan"});
}

TEST_F(WeightsFile, RefusesHalfOfTheStatistics) {
  tensors_["input.mean"] = ConstTensorView(block_.data(), Shape{5});
  expect_refusal({"input.scale", "both or neither"});
}

TEST_F(WeightsFile, RefusesTruncatedFiles) {
  write();
  const std::string whole = read_text_file(path_);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, whole.size() / 2, whole.size() - 1}) {
    std::ofstream(path_, std::ios::binary).write(whole.data(), static_cast<std::streamsize>(size));
    EXPECT_THROW(read_model_config(path_), Error) << size;
  }
}

// Any flipped bit of the tensors of a file that write_weights made.
TEST_F(WeightsFile, RefusesFlippedBits) {
  write_weights(path_, config_, table_, block_.data(), {}, {});
  const std::string whole = read_text_file(path_);
  std::vector<float> block(block_.size());
  EXPECT_NO_THROW(read_weights(path_, table_, block.data()));
  const std::size_t body = 8 + static_cast<unsigned char>(whole[0]) +
                           256 * static_cast<std::size_t>(static_cast<unsigned char>(whole[1]));
  for (std::size_t at = body; at < whole.size(); at += 97) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    write_text_file(path_, damaged);
    try {
      read_weights(path_, table_, block.data());
      FAIL() << "accepted with byte " << at << " changed";
    } catch (const InputError& e) {
      EXPECT_NE(std::string(e.what()).find(path_.string()), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace stemfabric::test
