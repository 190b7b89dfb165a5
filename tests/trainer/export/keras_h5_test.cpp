#include "trainer/export/keras_h5.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/core/check.h"
#include "runtime/io/hdf5.h"
#include "tests/support/paths.h"
#include "tests/trainer/export/export_example.h"

namespace stemfabric {
namespace {

using test::TempDir;
using testing::HasSubstr;

// A model whose every element is different, so that no mix-up of names, order, transposition or
// strides goes unseen.
struct Example {
  ModelConfig config = test::export_model_config();
  ParameterTable table{config};
  std::vector<float> block = std::vector<float>(static_cast<std::size_t>(table.block_elements()));
  Example() {
    for (std::size_t i = 0; i < block.size(); ++i) {
      block[i] = 0.001F * static_cast<float>(i) - 1.0F;
    }
  }
  float value(const std::string& name, int64_t row, int64_t column) const {
    const ConstTensorView view = ParameterTable::view(table.find(name), block.data());
    return view.rank() == 2 ? view.as<float>()[row * view.stride(0) + column]
                            : view.as<float>()[column];
  }
};

const std::vector<std::string> kLayers = {"input_projection",
                                          "positional_encoding",
                                          "attention_0_wq",
                                          "attention_0_wk",
                                          "attention_0_wv",
                                          "attention_0_wo",
                                          "norm1_0",
                                          "ff1_0",
                                          "ff2_0",
                                          "norm2_0",
                                          "attention_1_wq",
                                          "attention_1_wk",
                                          "attention_1_wv",
                                          "attention_1_wo",
                                          "norm1_1",
                                          "ff1_1",
                                          "ff2_1",
                                          "norm2_1",
                                          "vocals_head_dense1",
                                          "vocals_head_output",
                                          "drums_head_dense1",
                                          "drums_head_output",
                                          "bass_head_dense1",
                                          "bass_head_output",
                                          "harmonic_head_dense1",
                                          "harmonic_head_output",
                                          "perc_head_dense1",
                                          "perc_head_output",
                                          "sub_head_dense1",
                                          "sub_head_output"};

void expect_equal(const Example& example, const Hdf5File& file, const std::string& data,
                  const std::string& parameter) {
  const Tensor tensor = file.read_dataset(data);
  ASSERT_EQ(tensor.shape(), example.table.find(parameter).shape) << data;
  const int64_t columns = tensor.shape()[-1];
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    ASSERT_EQ(tensor.as<float>()[i], example.value(parameter, i / columns, i % columns)) << data;
  }
}

TEST(KerasH5, LayersAndWeights) {
  const TempDir dir;
  const Example example;
  write_keras_h5(dir / "final_model.h5", example.config, example.table, example.block.data(), {});
  const Hdf5File file(dir / "final_model.h5");
  EXPECT_EQ(file.read_attribute_list("/", "layer_names"), kLayers);
  EXPECT_EQ(file.read_attribute("/", "backend"), "tensorflow");
  EXPECT_EQ(file.read_attribute("/", "keras_version"), "2.15.0");
  EXPECT_EQ(file.children("/").size(), kLayers.size());
  int64_t total = 0;
  for (const std::string& layer : kLayers) {
    for (const std::string& name : file.read_attribute_list("/" + layer, "weight_names")) {
      EXPECT_THAT(name, testing::StartsWith(layer + "/"));
      total += file.read_dataset("/" + layer + "/" + name).elements();
    }
  }
  EXPECT_EQ(total, example.table.parameter_count());
  expect_equal(example, file, "/input_projection/input_projection/kernel:0", "input.kernel");
  expect_equal(example, file, "/positional_encoding/positional_encoding/embeddings:0", "pos");
  expect_equal(example, file, "/attention_1_wk/attention_1_wk/kernel:0", "blocks.1.attn.k.kernel");
  expect_equal(example, file, "/attention_0_wv/attention_0_wv/bias:0", "blocks.0.attn.v.bias");
  expect_equal(example, file, "/attention_0_wo/attention_0_wo/kernel:0", "blocks.0.attn.o.kernel");
  expect_equal(example, file, "/norm1_1/norm1_1/gamma:0", "blocks.1.ln1.gamma");
  expect_equal(example, file, "/norm2_0/norm2_0/beta:0", "blocks.0.ln2.beta");
  expect_equal(example, file, "/ff2_1/ff2_1/kernel:0", "blocks.1.ff2.kernel");
  expect_equal(example, file, "/bass_head_dense1/bass_head_dense1/kernel:0",
               "heads.bass.hidden.kernel");
  expect_equal(example, file, "/sub_head_output/sub_head_output/kernel:0", "heads.sub.out.kernel");
}

TEST(KerasH5, ConfigurationIsStored) {
  const TempDir dir;
  const Example example;
  write_keras_h5(dir / "m.h5", example.config, example.table, example.block.data(), {});
  EXPECT_EQ(Hdf5File(dir / "m.h5").read_attribute("/", "stemfabric_config"),
            R"({"features":6,"dim":8,"heads":2,"depth":2,"dim_ff":16,"out":5,)"
            R"("max_sequence_length":12,"norm_epsilon":1e-05,)"
            R"("attention_activation":"superposition_centered",)"
            R"("attention_coefficients":[0.3,0.3,0.4],"input_statistics":"none"})");
}

TEST(KerasH5, StatisticsAreFoldedIntoTheFirstLayer) {
  const TempDir dir;
  const Example example;
  const InputStatistics statistics{{1000, -2, 0.5F, 0, 7, 3e-4F}, {0.01F, 4, 1, 1, 250, 1e4F}};
  write_keras_h5(dir / "m.h5", example.config, example.table, example.block.data(), statistics);
  const Hdf5File file(dir / "m.h5");
  const Tensor kernel = file.read_dataset("/input_projection/input_projection/kernel:0");
  const Tensor bias = file.read_dataset("/input_projection/input_projection/bias:0");
  // On raw inputs the folded layer gives what the normalised inputs give in the original one.
  const std::vector<double> x = {1003, -2.5, 0.25, 1, 6.99, 1e-4};
  for (int64_t j = 0; j < 8; ++j) {
    double want = example.value("input.bias", 0, j);
    double got = bias.as<float>()[j];
    double magnitude = std::abs(got);
    for (std::size_t i = 0; i < 6; ++i) {
      want += (x[i] - statistics.mean[i]) * statistics.scale[i] *
              example.value("input.kernel", static_cast<int64_t>(i), j);
      got += x[i] * kernel.as<float>()[static_cast<int64_t>(i) * 8 + j];
      magnitude += std::abs(x[i] * kernel.as<float>()[static_cast<int64_t>(i) * 8 + j]);
    }
    EXPECT_NEAR(got, want, 1.2e-7 * magnitude);  // two roundings to float32
  }
  EXPECT_THAT(file.read_attribute("/", "stemfabric_config"),
              HasSubstr(R"("input_statistics":"folded into input_projection")"));
  EXPECT_EQ(file.read_dataset("/stemfabric_input_statistics/mean").as<float>()[0], 1000);
  EXPECT_EQ(file.read_dataset("/stemfabric_input_statistics/scale").as<float>()[5], 1e4F);
  EXPECT_EQ(file.read_attribute_list("/", "layer_names"), kLayers);
}

TEST(KerasH5, RefusesWhatKerasLayersCannotExpress) {
  const TempDir dir;
  Example example;
  const auto write = [&](const char* name, const ModelConfig& config) {
    write_keras_h5(dir / name, config, ParameterTable(config), example.block.data(), {});
  };
  EXPECT_THROW(write("m.weights.h5", example.config), UsageError);
  ModelConfig pre = example.config;
  pre.norm_placement = "pre";
  EXPECT_THROW(write("m.h5", pre), ConfigError);
  ModelConfig rotary = example.config;
  rotary.positions = "rotary";
  EXPECT_THROW(write("m.h5", rotary), ConfigError);
  EXPECT_THAT(*keras_h5_obstacle(rotary), HasSubstr("model.positions"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace stemfabric
