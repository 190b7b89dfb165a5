// ONNX and TensorFlow.js files: what they compute, what they refuse, and whether the evaluators see
// that a file is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/io/hdf5.h"
#include "tests/trainer/export/export_example.h"
#include "trainer/export/evaluator/evaluators.h"
#include "trainer/export/keras_h5.h"
#include "trainer/export/model_weights.h"
#include "trainer/export/onnx_graph.h"
#include "trainer/export/tfjs_graph.h"

namespace stemfabric {
namespace {

using evaluator::Array;
using evaluator::Evaluator;
using test::ExportVariant;
using test::TempDir;
using testing::HasSubstr;
using testing::ThrowsMessage;
using Json = nlohmann::ordered_json;

const ExportVariant kPlain = test::with_activation("superposition_centered");

Array features(int64_t samples, int64_t tokens, uint32_t stream = 7) {
  std::vector<float> values(static_cast<std::size_t>(samples * tokens * 6));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = test::export_random(stream, static_cast<int64_t>(i));
  }
  return Array::of({samples, tokens, 6}, std::move(values));
}

Array mask_of(int64_t samples, int64_t tokens, int64_t present) {
  std::vector<float> values;
  for (int64_t i = 0; i < samples * tokens; ++i) {
    values.push_back(i % tokens < present ? 1.0F : 0.0F);
  }
  return Array::of({samples, tokens}, std::move(values));
}

struct Written {
  TempDir dir;
  explicit Written(const ExportVariant& variant = kPlain) {
    weights = test::write_export_example(dir, variant);
    const ModelWeights loaded = ModelWeights::load(weights);
    write_onnx(dir / "m.onnx", loaded);
    make_directories(dir / "tfjs");
    write_tfjs(dir / "tfjs", loaded);
  }
  std::vector<Evaluator> evaluators() const {
    return {evaluator::open_onnx(dir / "m.onnx"), evaluator::open_tfjs(dir / "tfjs"),
            evaluator::open_weights(weights)};
  }
  std::filesystem::path weights;
};

class GraphFiles : public testing::TestWithParam<ExportVariant> {};

// Padding changes nothing for the tokens that are there, whatever it holds.
TEST_P(GraphFiles, PaddedIsUnpadded) {
  const Written written(GetParam());
  const Array whole = features(2, 9);
  const Array part = evaluator::slice(whole, {0, 0, 0}, {2, 5, 6});
  for (const Evaluator& evaluate : written.evaluators()) {
    const auto padded = evaluate(whole, mask_of(2, 9, 5));
    const auto alone = evaluate(part, mask_of(2, 5, 5));
    for (const auto& [stem, outputs] : alone) {
      const Array same = evaluator::slice(padded.at(stem), {0, 0, 0}, outputs.shape);
      for (std::size_t i = 0; i < outputs.values.size(); ++i) {
        ASSERT_NEAR(same.values[i], outputs.values[i], 1e-5) << stem;
      }
    }
  }
}

// Samples do not see each other, and one of nothing but padding gives numbers.
TEST_P(GraphFiles, SamplesAreIndependent) {
  const Written written(GetParam());
  const Array both = features(2, 4);
  Array mask = mask_of(2, 4, 4);
  std::fill(mask.values.begin() + 4, mask.values.end(), 0.0F);
  for (const Evaluator& evaluate : written.evaluators()) {
    const auto together = evaluate(both, mask);
    const auto alone = evaluate(evaluator::slice(both, {0, 0, 0}, {1, 4, 6}), mask_of(1, 4, 4));
    for (const auto& [stem, outputs] : alone) {
      for (std::size_t i = 0; i < outputs.values.size(); ++i) {
        ASSERT_EQ(together.at(stem).values[i], outputs.values[i]) << stem;
        ASSERT_TRUE(std::isfinite(together.at(stem).values[outputs.values.size() + i])) << stem;
      }
    }
  }
}

TEST_P(GraphFiles, EveryLengthUpToTheLongest) {
  const Written written(GetParam());
  const bool limited = read_model_config(written.weights).positions != "none";
  for (const Evaluator& evaluate : written.evaluators()) {
    for (const int64_t tokens : {1, 2, 11, 12}) {
      const auto outputs = evaluate(features(1, tokens), mask_of(1, tokens, tokens));
      EXPECT_EQ(outputs.size(), 6U);
      EXPECT_EQ(outputs.at("sub").shape[1], tokens);
    }
  }
  if (limited) {
    for (const Evaluator& evaluate : written.evaluators()) {
      EXPECT_THROW(evaluate(features(1, 13), mask_of(1, 13, 13)), InputError);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, GraphFiles, testing::ValuesIn(test::export_variants()),
                         [](const auto& test) { return test.param.name; });

TEST(GraphFile, EqualWeightsGiveEqualBytes) {
  const Written one;
  const Written other;
  for (const char* name : {"m.onnx", "tfjs/model.json", "tfjs/group1-shard1of1.bin"}) {
    EXPECT_EQ(sha256_file(one.dir / name), sha256_file(other.dir / name)) << name;
  }
}

TEST(GraphFile, LargeWeightsAreCutIntoShards) {
  const Written written({"large", [](ModelConfig& c) {
                           c.dim_ff = 65536;
                           c.depth = 1;
                         }});
  const Json model = Json::parse(read_text_file(written.dir / "tfjs/model.json"));
  EXPECT_EQ(model["weightsManifest"][0]["paths"].dump(),
            R"(["group1-shard1of2.bin","group1-shard2of2.bin"])");
  EXPECT_EQ(std::filesystem::file_size(written.dir / "tfjs/group1-shard1of2.bin"), 4194304U);
  EXPECT_NO_THROW(evaluator::open_tfjs(written.dir / "tfjs")(features(1, 2), mask_of(1, 2, 2)));
}

TEST(GraphFile, MetadataTellsTheModel) {
  const Written written;
  const Json model = Json::parse(read_text_file(written.dir / "tfjs/model.json"));
  const Json& told = model["userDefinedMetadata"]["stemfabric"];
  EXPECT_EQ(told["config"]["attention"]["activation"], "superposition_centered");
  EXPECT_EQ(told["input_statistics"]["mean"].size(), 6U);
  EXPECT_EQ(told["shards_sha256"][0], sha256_file(written.dir / "tfjs/group1-shard1of1.bin"));
  EXPECT_THAT(read_text_file(written.dir / "m.onnx"), HasSubstr(told["input_statistics"].dump()));
}

// What makes a file wrong: text of model.json, or bytes of the ONNX file of equal length.
struct Fault {
  std::string name, from, to;
};

std::string replaced_once(std::string text, const Fault& fault) {
  const std::size_t at = text.find(fault.from);
  EXPECT_NE(at, std::string::npos) << fault.name;
  return text.replace(at, fault.from.size(), fault.to);
}

class SeededFaults : public testing::Test {
 protected:
  void SetUp() override {
    weights_ = test::write_export_example(written_.dir, kPlain);
    trained_ = test::open_export_example(ctx_, weights_);
    reference_.emplace(trained_);
  }
  void expect_seen(const Evaluator& evaluate, const std::string& name) {
    EXPECT_THAT([&] { reference_->agreement("file", evaluate); },
                testing::Throws<NumericError>(
                    testing::Property(&NumericError::what, HasSubstr("but the trainer's is"))))
        << name;
  }

  void expect_refused(const std::function<Evaluator()>& open, const std::string& why,
                      const std::string& name) {
    EXPECT_THAT([&] { reference_->agreement("file", open()); },
                testing::Throws<InputError>(testing::Property(&InputError::what, HasSubstr(why))))
        << name;
  }

  Written written_;
  std::filesystem::path weights_;
  ExecutionContext ctx_;
  TrainedModel trained_;
  std::optional<ExportReference> reference_;
};

TEST_F(SeededFaults, OfTfjsAreSeen) {
  const std::string json = read_text_file(written_.dir / "tfjs/model.json");
  const std::string shards = read_text_file(written_.dir / "tfjs/group1-shard1of1.bin");
  for (const Fault& fault : std::vector<Fault>{
           {"a sigmoid for a tanh", R"("op":"Tanh")", R"("op":"Sigmoid")"},
           {"no relu", R"("op":"Relu")", R"("op":"Identity")"},
           {"mean and statistics swapped", R"("input":["input/Reshape","input.mean"])",
            R"("input":["input.mean","input/Reshape"])"},
           {"keys for queries",
            R"("input":["blocks.1.attn/Transpose","blocks.1.attn/Transpose_1"])",
            R"("input":["blocks.1.attn/Transpose_1","blocks.1.attn/Transpose"])"},
           {"another block's norm", R"("blocks.0.ln1.gamma"],"attr")",
            R"("blocks.1.ln1.gamma"],"attr")"},
           {"no mask behind the function",
            R"("input":["blocks.0.attn/AddV2_3","mask/ExpandDims_1"])",
            R"("input":["blocks.0.attn/AddV2_3","scalar.1"])"},
           {"another stem", R"("name":"drums:0")", R"("name":"bass:0")"},
           {"another coefficient", R"("blocks.0.attn/Softmax_1","scalar.0.4"])",
            R"("blocks.0.attn/Softmax_1","scalar.0.3"])"}}) {
    write_text_file(written_.dir / "tfjs/model.json", replaced_once(json, fault));
    expect_seen(evaluator::open_tfjs(written_.dir / "tfjs"), fault.name);
  }
  write_text_file(written_.dir / "tfjs/model.json", json);
  std::string wrong = shards;
  wrong[wrong.size() / 2 + 3] ^= 0x40;  // an exponent
  write_text_file(written_.dir / "tfjs/group1-shard1of1.bin", wrong);
  EXPECT_ANY_THROW(reference_->agreement("file", evaluator::open_tfjs(written_.dir / "tfjs")));
  write_text_file(written_.dir / "tfjs/group1-shard1of1.bin", shards);
  EXPECT_LT(reference_->agreement("file", evaluator::open_tfjs(written_.dir / "tfjs")), 1e-5);
}

TEST_F(SeededFaults, OfOnnxAreSeen) {
  const std::string bytes = read_text_file(written_.dir / "m.onnx");
  for (const Fault& fault :
       std::vector<Fault>{{"a relu for a tanh", "\x22\x04Tanh", "\x22\x04Relu"},
                          {"a difference for a sum",
                           "\x22\x03"
                           "Add",
                           "\x22\x03Sub"},
                          {"another block's weights",
                           "\x0a\x16"
                           "blocks.0.attn.q.kernel",
                           "\x0a\x16"
                           "blocks.1.attn.q.kernel"},
                          {"another norm",
                           "\x0a\x12"
                           "blocks.0.ln2.gamma",
                           "\x0a\x12"
                           "blocks.0.ln1.gamma"}}) {
    write_text_file(written_.dir / "m.onnx", replaced_once(bytes, fault));
    expect_seen(evaluator::open_onnx(written_.dir / "m.onnx"), fault.name);
  }
  write_text_file(written_.dir / "m.onnx", bytes);
  EXPECT_LT(reference_->agreement("file", evaluator::open_onnx(written_.dir / "m.onnx")), 1e-5);
}

// What a file declares and a runtime goes by, though no output shows it.
TEST_F(SeededFaults, OfDeclarationsInOnnxAreSeen) {
  const std::filesystem::path path = written_.dir / "m.onnx";
  const std::string bytes = read_text_file(path);
  for (const auto& [fault, why] : std::vector<std::pair<Fault, std::string>>{
           {{"IR version", "\x08\x08\x12", "\x08\x07\x12"}, "IR version 7"},
           {{"a mask of doubles", "\x0a\x04mask\x12\x17\x0a\x15\x08\x01",
             "\x0a\x04mask\x12\x17\x0a\x15\x08\x0b"},
            "'mask': is declared with element type 11"},
           {{"an output of integers",
             "\x0a\x03"
             "sub\x12\x1b\x0a\x19\x08\x01",
             "\x0a\x03"
             "sub\x12\x1b\x0a\x19\x08\x07"},
            "'sub': is declared with element type 7"},
           {{"five features", "\x12\x04time\x0a\x02\x08\x06", "\x12\x04time\x0a\x02\x08\x05"},
            "'stem_features' [1, 1, 6] is declared as [-1, -1, 5]"},
           {{"four outputs", "\x12\x04time\x0a\x02\x08\x05", "\x12\x04time\x0a\x02\x08\x04"},
            "[1, 1, 5] is declared as [-1, -1, 4]"}}) {
    write_text_file(path, replaced_once(bytes, fault));
    expect_refused([&] { return evaluator::open_onnx(path); }, why, fault.name);
  }
}

// What predict() goes by, and the mask that it does not give.
TEST_F(SeededFaults, OfTheSignatureInTfjsAreSeen) {
  const std::filesystem::path folder = written_.dir / "tfjs";
  const std::string json = read_text_file(folder / "model.json");
  const auto open = [&] { return evaluator::open_tfjs(folder); };
  for (const auto& [fault, why] : std::vector<std::pair<Fault, std::string>>{
           {{"predict wants a mask", R"("signature":{"inputs":{)",
             R"("signature":{"inputs":{"mask":{"name":"mask:0"},)"},
            "not 'stem_features' alone"},
           {{"stems change names", R"("structuredOutputKeys":["vocals","drums")",
             R"("structuredOutputKeys":["drums","vocals")"},
            "structuredOutputKeys"},
           {{"a mask without default", R"("op":"PlaceholderWithDefault")", R"("op":"Placeholder")"},
            "'mask' has no default"},
           {{"integers for features",
             R"("name":"stem_features","op":"Placeholder","attr":{"dtype":{"type":"DT_FLOAT"})",
             R"("name":"stem_features","op":"Placeholder","attr":{"dtype":{"type":"DT_INT32"})"},
            "'stem_features' takes no floats"}}) {
    write_text_file(folder / "model.json", replaced_once(json, fault));
    expect_refused(open, why, fault.name);
  }
  write_text_file(folder / "model.json", json);
  std::string shards = read_text_file(folder / "group1-shard1of1.bin");
  ASSERT_EQ(shards.substr(0, 4), std::string("\x00\x00\x80\x3f", 4));  // mask.default, 1
  shards[2] = 0;                                                       // 0.5
  write_text_file(folder / "group1-shard1of1.bin", shards);
  expect_refused(open, "without 'mask'", "another default");
}

// A copy of a Keras file with one list of names changed.
void copy_keras(const std::filesystem::path& from, const std::filesystem::path& to,
                const std::string& changed,
                const std::function<void(std::vector<std::string>&)>& change) {
  const Hdf5File file(from);
  Hdf5Writer copy(to);
  const auto copy_list = [&](const std::string& object, const char* attribute) {
    std::vector<std::string> names = file.read_attribute_list(object, attribute);
    const std::vector<std::string> original = names;
    if (object == changed) {
      change(names);
    }
    copy.set_attribute(object, attribute, names);
    return original;
  };
  copy.set_attribute("/", "stemfabric_config", file.read_attribute("/", "stemfabric_config"));
  for (const std::string& layer : copy_list("/", "layer_names")) {
    copy.create_group("/" + layer);
    for (const std::string& name : copy_list("/" + layer, "weight_names")) {
      const std::string dataset = fmt::format("/{}/{}", layer, name);
      copy.write_dataset(dataset, file.read_dataset(dataset).view());
    }
  }
  copy.commit();
}

// load_weights pairs by position: names that are all there, in another order, are another model.
TEST_F(SeededFaults, OfTheOrderInKerasFilesAreSeen) {
  const ModelWeights loaded = ModelWeights::load(weights_);
  const std::filesystem::path good = written_.dir / "m.h5";
  const std::filesystem::path wrong = written_.dir / "wrong.h5";
  write_keras_h5(good, loaded.config(), loaded.table(), loaded.block(), loaded.statistics());
  const auto open = [&] { return evaluator::open_keras_h5(wrong); };
  copy_keras(good, wrong, "/", [](auto&) {});
  EXPECT_LT(reference_->agreement("file", open()), 1e-5);
  const auto swap_first = [](std::vector<std::string>& names) { std::swap(names[0], names[1]); };
  copy_keras(good, wrong, "/norm1_0", swap_first);
  expect_refused(open, "weight_names of norm1_0 has 'norm1_0/beta:0'", "beta for gamma");
  copy_keras(good, wrong, "/", [](auto& names) { std::swap(names[2], names[3]); });
  expect_refused(open, "layer_names has 'attention_0_wk'", "keys for queries");
  copy_keras(good, wrong, "/", [](auto& names) { names.pop_back(); });
  expect_refused(open, "layer_names has 29 entries where Keras wants 30", "a layer less");
}

// Wherever a file ends too early or a byte is another, there is an error with a sentence or, where
// a byte means little, an answer; no crash.
TEST_F(SeededFaults, DamagedFilesAreRefused) {
  const std::string bytes = read_text_file(written_.dir / "m.onnx");
  const std::filesystem::path damaged = written_.dir / "damaged.onnx";
  for (std::size_t size = 0; size < bytes.size(); size += 211) {
    test::put_file(damaged, std::string_view(bytes).substr(0, size));
    EXPECT_THAT([&] { evaluator::open_onnx(damaged)(features(1, 2), mask_of(1, 2, 2)); },
                testing::Throws<InputError>(
                    testing::Property(&InputError::what, HasSubstr("damaged.onnx"))))
        << size;
  }
  for (std::size_t at = 0; at < bytes.size(); at += 97) {
    std::string wrong = bytes;
    wrong[at] ^= 0x55;
    test::put_file(damaged, wrong);
    try {
      evaluator::open_onnx(damaged)(features(1, 2), mask_of(1, 2, 2));
    } catch (const InputError&) {
    }
  }
}

TEST(TfjsFile, DamagedFoldersAreRefused) {
  const Written written;
  const std::filesystem::path model = written.dir / "tfjs/model.json";
  const std::filesystem::path shard = written.dir / "tfjs/group1-shard1of1.bin";
  const std::string json = read_text_file(model);
  const std::string values = read_text_file(shard);
  const auto refused = [&](const std::string& text, const std::string& data, const char* why) {
    write_text_file(model, text);
    write_text_file(shard, data);
    EXPECT_THAT([&] { evaluator::open_tfjs(written.dir / "tfjs"); },
                testing::Throws<InputError>(testing::Property(
                    &InputError::what, testing::AllOf(HasSubstr("model.json"), HasSubstr(why)))));
  };
  refused(json.substr(0, json.size() / 2), values, "no graph model");
  refused("[]", values, "no graph model");
  refused(json, values.substr(4), "beyond the end of the shards");
  refused(json, values + "1234", "4 bytes too many");
  refused(replaced_once(json, {"", R"("versions")", R"("version")"}), values, "versions");
  refused(replaced_once(json, {"", R"("group1-shard1of1.bin")", R"("../w.safetensors")"}), values,
          "another folder");
  refused(replaced_once(json, {"", R"("blocks.0.attn/BatchMatMulV2")", R"("nowhere")"}), values,
          "not there");
  std::filesystem::remove(shard);
  write_text_file(model, json);
  EXPECT_THROW(evaluator::open_tfjs(written.dir / "tfjs"), IoError);
}

}  // namespace
}  // namespace stemfabric
