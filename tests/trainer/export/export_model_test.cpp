// export_model: all formats of all variants agree with the trainer; nothing is left where they do
// not; the model card; wrong requests.
#include "trainer/export/export_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/support/process.h"
#include "tests/trainer/export/export_example.h"
#include "trainer/export/model_weights.h"
#include "trainer/export/tfjs_graph.h"

namespace stemfabric {
namespace {

using test::ExportVariant;
using test::TempDir;
using testing::AllOf;
using testing::HasSubstr;
using Json = nlohmann::ordered_json;

const ExportVariant kPlain = test::with_activation("superposition_centered");
const std::vector<ExportFormat> kGraphs = {ExportFormat::kTfjs, ExportFormat::kOnnx,
                                           ExportFormat::kSafetensors};
const std::vector<ExportFormat> kAll = {ExportFormat::kKerasH5, ExportFormat::kTfjs,
                                        ExportFormat::kOnnx, ExportFormat::kSafetensors};

ExportResult export_to(const std::filesystem::path& output, const std::filesystem::path& weights,
                       const std::vector<ExportFormat>& formats = kAll) {
  return export_model(ExecutionContext({.threads = 1}), {.model = weights,
                                                         .formats = formats,
                                                         .output_dir = output,
                                                         .evaluation = {},
                                                         .licence = ""});
}

template <typename E>
auto throws_with(const std::vector<std::string>& parts) {
  testing::Matcher<std::string> all = testing::_;
  for (const std::string& part : parts) {
    all = AllOf(all, HasSubstr(part));
  }
  return testing::Throws<E>(testing::Property(&E::what, all));
}

class Export : public testing::TestWithParam<ExportVariant> {};

TEST_P(Export, EveryFormatAgreesWithTheTrainer) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, GetParam());
  const ExportResult result = export_to(dir / "x", weights, GetParam().keras ? kAll : kGraphs);
  EXPECT_EQ(result.agreement.size(), GetParam().keras ? 4U : 3U);
  for (const auto& [format, share] : result.agreement) {
    EXPECT_LT(share, 1e-5) << format;  // float32: some roundings of 6e-8 in a row
  }
  for (const ExportedFile& file : result.files) {
    EXPECT_EQ(sha256_file(dir / ("x/" + file.name)), file.sha256);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Export, testing::ValuesIn(test::export_variants()),
                         [](const auto& test) { return test.param.name; });

TEST(ExportModel, WhatKerasCannotExpressIsRefusedInWords) {
  const TempDir dir;
  const auto weights =
      test::write_export_example(dir, {"rotary", [](ModelConfig& c) { c.positions = "rotary"; }});
  EXPECT_THAT([&] { export_to(dir / "x", weights); },
              throws_with<ConfigError>({"w.safetensors", "keras-h5", "model.positions",
                                        "--format tfjs,onnx,safetensors"}));
  EXPECT_FALSE(std::filesystem::exists(dir / "x"));
}

// Attention scores beyond 30000: a mask cannot hold in such a graph, and the export sees it.
TEST(ExportModel, ADisagreementLeavesNothingBehind) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain, "w.safetensors", 1e6F);
  for (const ExportFormat format : {ExportFormat::kTfjs, ExportFormat::kOnnx}) {
    EXPECT_THAT(
        [&] {
          export_to(dir / "x", weights, {ExportFormat::kSafetensors, format});
        },
        throws_with<NumericError>({"but the trainer's is", "nothing was exported"}));
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(ExportModel, AFailedExportLeavesNoFoldersAboveIt) {
  const TempDir dir;
  const auto good = test::write_export_example(dir, kPlain);
  const auto extreme = test::write_export_example(dir, kPlain, "extreme.safetensors", 1e6F);
  EXPECT_THROW(export_to(dir / "a/b/x", extreme, {ExportFormat::kOnnx}), NumericError);
  EXPECT_FALSE(std::filesystem::exists(dir / "a"));
  make_directories(dir / "a");
  EXPECT_THROW(export_to(dir / "a/b/x", extreme, {ExportFormat::kOnnx}), NumericError);
  EXPECT_TRUE(std::filesystem::is_empty(dir / "a"));
  export_to(dir / "a/b/x", good, {ExportFormat::kOnnx});
  EXPECT_TRUE(std::filesystem::exists(dir / "a/b/x/model.onnx"));
}

TEST(ExportModel, AFailedExportKeepsTheEarlierOne) {
  const TempDir dir;
  const auto good = test::write_export_example(dir, kPlain);
  const auto extreme = test::write_export_example(dir, kPlain, "extreme.safetensors", 1e6F);
  export_to(dir / "x", good, {ExportFormat::kOnnx});
  const std::string before = sha256_file(dir / "x/model.onnx");
  EXPECT_THROW(export_to(dir / "x", extreme, {ExportFormat::kOnnx}), NumericError);
  EXPECT_EQ(sha256_file(dir / "x/model.onnx"), before);
}

TEST(ExportModel, ANewExportReplacesTheEarlierOne) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain);
  export_to(dir / "x", weights, {ExportFormat::kTfjs});
  export_to(dir / "x", weights, {ExportFormat::kOnnx});
  EXPECT_TRUE(std::filesystem::exists(dir / "x/model.onnx"));
  EXPECT_FALSE(std::filesystem::exists(dir / "x/tfjs"));
}

TEST(ExportModel, FoldersWithOtherFilesAreLeftAlone) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain);
  make_directories(dir / "x");
  write_text_file(dir / "x/thesis.txt", "years of work");
  EXPECT_THAT([&] { export_to(dir / "x", weights); }, throws_with<UsageError>({"thesis.txt"}));
  make_directories(dir / "z/tfjs");
  write_text_file(dir / "z/tfjs/thesis.txt", "years of work");
  EXPECT_THAT([&] { export_to(dir / "z", weights); }, throws_with<UsageError>({"tfjs/thesis.txt"}));
  EXPECT_THAT([&] { export_to(dir / "w.safetensors", weights); },
              throws_with<UsageError>({"is no folder"}));
  export_to(dir / "y", weights, {ExportFormat::kSafetensors});
  EXPECT_THAT([&] { export_to(dir / "y", dir / "y/model.safetensors", {ExportFormat::kOnnx}); },
              throws_with<UsageError>({"lies in --output-dir itself"}));
  EXPECT_TRUE(std::filesystem::exists(dir / "y/model.safetensors"));
}

// The names of an export are not enough: what its card does not list is somebody's own.
TEST(ExportModel, FilesThatOnlyLookLikeAnExportAreLeftAlone) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain);
  const auto refused = [&](const char* folder, const std::string& name) {
    EXPECT_THAT([&] { export_to(dir / folder, weights, {ExportFormat::kSafetensors}); },
                throws_with<UsageError>({"holds " + name + ","}));
    EXPECT_TRUE(std::filesystem::exists(dir / folder / name));
  };
  make_directories(dir / "own");
  std::filesystem::copy_file(weights, dir / "own/model.safetensors");
  refused("own", "model.safetensors");
  // Beside the card of an export that lists other files; in place of one that it lists.
  export_to(dir / "x", weights, {ExportFormat::kOnnx});
  std::filesystem::copy_file(weights, dir / "x/model.safetensors");
  refused("x", "model.safetensors");
  std::filesystem::remove(dir / "x/model.safetensors");
  write_text_file(dir / "x/model.onnx", "another model");
  refused("x", "model.onnx");
  // Cards of others.
  make_directories(dir / "theirs");
  for (const char* card : {"no JSON", "[]", R"({"files": []})", R"({"generator": 1, "files": 2})",
                           R"({"generator": "a hub", "files": [{"name": "a", "sha256": ""}]})",
                           R"({"generator": "stemfabric 0", "files": [1]})"}) {
    write_text_file(dir / "theirs/model_card.json", card);
    refused("theirs", "model_card.json");
  }
}

TEST(ExportModel, ASlashBehindTheFolderChangesNothing) {
  const TempDir dir;
  const auto good = test::write_export_example(dir, kPlain);
  const auto extreme = test::write_export_example(dir, kPlain, "extreme.safetensors", 1e6F);
  EXPECT_THROW(export_to(dir / "x/", extreme, {ExportFormat::kOnnx}), NumericError);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 2);
  for (const ExportFormat format : {ExportFormat::kTfjs, ExportFormat::kOnnx}) {
    export_to(dir / "x/", good, {format});
  }
  EXPECT_TRUE(std::filesystem::exists(dir / "x/model.onnx"));
  EXPECT_FALSE(std::filesystem::exists(dir / "x/tfjs"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 3);
}

TEST(ExportModel, TheExportedWeightsAreTheTrainers) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain);
  export_to(dir / "x", weights, {ExportFormat::kSafetensors});
  EXPECT_EQ(sha256_file(dir / "x/model.safetensors"), sha256_file(weights));
}

TEST(ExportModel, WrongModels) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain);
  EXPECT_THAT([&] { export_to(dir / "x", dir / "nothing.safetensors"); },
              throws_with<InputError>({"there is no model", "nothing.safetensors"}));
  const std::string bytes = read_text_file(weights);
  write_text_file(dir / "short.safetensors", bytes.substr(0, bytes.size() - 40));
  EXPECT_THAT([&] { export_to(dir / "x", dir / "short.safetensors"); },
              throws_with<InputError>({"short.safetensors"}));
  std::string flipped = bytes;
  flipped[bytes.size() - 9] ^= 1;
  write_text_file(dir / "flipped.safetensors", flipped);
  EXPECT_THAT([&] { export_to(dir / "x", dir / "flipped.safetensors"); },
              throws_with<InputError>({"flipped.safetensors", "damaged"}));
  EXPECT_FALSE(std::filesystem::exists(dir / "x"));
}

// A report as `evaluate` writes it, cut to what a card reads.
std::string report_about(const std::string& sha256) {
  Json stems;
  for (const std::string_view stem : kStemNames) {
    stems[std::string(stem)] = {{"sdr", 3.25}, {"sir", nullptr}, {"sar", 7.0}, {"overall", 0.5}};
  }
  return Json{{"model", {{"path", "/home/me/w.safetensors"}, {"sha256", sha256}}},
              {"data", {{"path", "/home/me/data"}, {"split", "validation"}, {"records", 9}}},
              {"aggregateMetrics", {{"sdr", 2.5}}},
              {"stemMetrics", stems},
              {"definitions", {{"sdr", "a ratio in dB"}}}}
      .dump();
}

// Needs a report.json in dir.
ExportResult export_packed(const TempDir& dir, const std::filesystem::path& weights,
                           WebWeights kind) {
  return export_model(ExecutionContext({.threads = 1}),
                      {.model = weights,
                       .formats = {ExportFormat::kTfjs, ExportFormat::kOnnx},
                       .output_dir = dir / web_weights_name(kind),
                       .evaluation = dir / "report.json",
                       .licence = "",
                       .web_weights = kind});
}

TEST(WebWeights, SmallerFilesAgreeWithTheRoundedModelAndTheLossIsMeasured) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain);
  write_text_file(dir / "report.json", report_about(sha256_file(weights)));
  const auto shard_bytes = [](const ExportResult& result) { return result.files[0].bytes; };
  const ExportResult full = export_packed(dir, weights, WebWeights::kFp32);
  const ExportResult half = export_packed(dir, weights, WebWeights::kFp16);
  const ExportResult byte = export_packed(dir, weights, WebWeights::kInt8);
  EXPECT_FALSE(full.web_weights.has_value());
  for (const ExportResult* packed : {&half, &byte}) {
    EXPECT_LT(packed->agreement.at("tfjs"), 1e-5);
    EXPECT_LT(packed->agreement.at("onnx"), 1e-5);  // holds the weights as they are
    EXPECT_LT(packed->web_weights->rms, packed->web_weights->largest);
  }
  // 11 bits of precision, 8 bits between least and greatest: what reaches the outputs is of that
  // order, a few roundings in a row.
  EXPECT_GT(half.web_weights->largest, 1e-5);
  EXPECT_LT(half.web_weights->largest, 1e-2);
  EXPECT_GT(byte.web_weights->rms, half.web_weights->rms);
  EXPECT_LT(byte.web_weights->rms, 0.1);
  const ModelWeights loaded = ModelWeights::load(weights);
  int64_t packed_values = 0;
  for (const ParameterInfo& p : loaded.table().entries()) {
    packed_values += is_packed(p.name) ? p.shape.elements() : 0;
  }
  EXPECT_EQ(shard_bytes(full) - shard_bytes(half), static_cast<uint64_t>(2 * packed_values));
  EXPECT_EQ(shard_bytes(full) - shard_bytes(byte), static_cast<uint64_t>(3 * packed_values));
  const Json card = Json::parse(read_text_file(dir / "int8/model_card.json"));
  EXPECT_EQ(card["verification"]["web_weights"]["kind"], "int8");
  EXPECT_EQ(card["verification"]["web_weights"]["evaluated"], false);
  EXPECT_EQ(card["evaluation"]["weights"], "fp32");
  const std::string scores_of = "The scores are those of the fp32 weights";
  EXPECT_THAT(read_text_file(dir / "int8/model_card.md"),
              AllOf(HasSubstr("files hold int8 weights and were compared"),
                    HasSubstr(scores_of + "; the tfjs files hold int8 weights, which were not")));
  EXPECT_THAT(read_text_file(dir / "fp32/model_card.md"), testing::Not(HasSubstr(scores_of)));
}

TEST(WebWeights, HalvesAreTheNearest) {
  const std::vector<float> values = {0.0F,         -0.0F,           1.0F,     -2.0F,
                                     65504.0F,     65519.0F,        0x1p-24F, 0x1p-25F,
                                     0x1.8p-24F,   1.0F + 0x1p-11F, 0.1F,     1.0F + 0x1.8p-10F,
                                     0x1.ff8p-15F, 0x1.fffp-15F};
  const std::vector<float> want = {0.0F,        -0.0F,          1.0F,         -2.0F,    65504.0F,
                                   65504.0F,    0x1p-24F,       0.0F,         0x1p-23F, 1.0F,
                                   0x1.998p-4F, 1.0F + 0x1p-9F, 0x1.ff8p-15F, 0x1p-14F};
  const PackedWeights packed = pack_weights(values, WebWeights::kFp16);
  EXPECT_EQ(packed.bytes.size(), 2 * values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(packed.unpacked[i], want[i]) << values[i];
    EXPECT_EQ(std::signbit(packed.unpacked[i]), std::signbit(values[i])) << values[i];
  }
  EXPECT_THROW(pack_weights(std::vector<float>{65520.0F}, WebWeights::kFp16), InputError);
}

TEST(WebWeights, BytesReachBothEnds) {
  const PackedWeights packed =
      pack_weights(std::vector<float>{-1.0F, 0.0F, 4.1F, 2.0F}, WebWeights::kInt8);
  EXPECT_EQ(packed.bytes.front(), '\0');
  EXPECT_EQ(packed.bytes[2], '\xff');
  EXPECT_EQ(packed.unpacked[0], -1.0F);
  EXPECT_NEAR(packed.unpacked[1], 0.0, 0.5 * 5.1 / 255);
  const std::vector<float> constant = {0.5F, 0.5F};
  EXPECT_EQ(pack_weights(constant, WebWeights::kInt8).unpacked, constant);
}

TEST(WebWeights, AreForTfjsAlone) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain);
  EXPECT_THAT(
      [&] {
        export_model(ExecutionContext({.threads = 1}), {.model = weights,
                                                        .formats = {ExportFormat::kOnnx},
                                                        .output_dir = dir / "x",
                                                        .evaluation = {},
                                                        .licence = "",
                                                        .web_weights = WebWeights::kFp16});
      },
      throws_with<UsageError>({"--web-weights fp16 is for tfjs"}));
  EXPECT_THAT([] { parse_web_weights("fp8"); }, throws_with<UsageError>({"fp32, fp16, int8"}));
}

TEST(ExportModel, Formats) {
  EXPECT_EQ(parse_export_formats("onnx,keras-h5"),
            (std::vector<ExportFormat>{ExportFormat::kOnnx, ExportFormat::kKerasH5}));
  EXPECT_THAT([] { parse_export_formats("onnx,torch"); },
              throws_with<UsageError>({"'torch'", "keras-h5, tfjs, onnx, safetensors"}));
  EXPECT_THAT([] { parse_export_formats("onnx,onnx"); }, throws_with<UsageError>({"twice"}));
  EXPECT_THROW(parse_export_formats("onnx,,tfjs"), UsageError);
  EXPECT_THROW(parse_export_formats(""), UsageError);
}

TEST(ModelCard, TellsWhatIsKnown) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain);
  write_text_file(dir / "report.json", report_about(sha256_file(weights)));
  export_model(ExecutionContext({.threads = 1}), {.model = weights,
                                                  .formats = {ExportFormat::kOnnx},
                                                  .output_dir = dir / "x",
                                                  .evaluation = dir / "report.json",
                                                  .licence = "CC-BY-4.0"});
  const std::string text = read_text_file(dir / "x/model_card.json");
  const Json card = Json::parse(text);
  EXPECT_EQ(card["licence"], "CC-BY-4.0");
  EXPECT_EQ(card["model"]["weights_sha256"], sha256_file(weights));
  EXPECT_EQ(card["model"]["config"]["dim"], 8);
  EXPECT_EQ(card["training"]["dataHash"], "c0ffee");
  EXPECT_EQ(card["evaluation"]["stemMetrics"]["bass"]["sdr"], 3.25);
  EXPECT_EQ(card["files"][0]["name"], "model.onnx");
  EXPECT_EQ(card["files"][0]["sha256"], sha256_file(dir / "x/model.onnx"));
  const std::string page = read_text_file(dir / "x/model_card.md");
  EXPECT_THAT(page, AllOf(HasSubstr("| bass | 3.25 | – | 7.00 | 0.50 |"), HasSubstr("CC-BY-4.0"),
                          HasSubstr("a ratio in dB"), HasSubstr("c0ffee"),
                          HasSubstr("superposition_centered")));
  for (const std::string& document : {text, page}) {
    EXPECT_THAT(document, testing::Not(HasSubstr("/home/me")));
    EXPECT_THAT(document, testing::Not(HasSubstr(dir.path().string())));
  }
}

TEST(ModelCard, SaysWhatIsNotKnown) {
  const TempDir dir;
  export_to(dir / "x", test::write_export_example(dir, kPlain), {ExportFormat::kOnnx});
  const Json card = Json::parse(read_text_file(dir / "x/model_card.json"));
  EXPECT_TRUE(card["licence"].is_null());
  EXPECT_TRUE(card["evaluation"].is_null());
  EXPECT_THAT(
      read_text_file(dir / "x/model_card.md"),
      AllOf(HasSubstr("licence | not stated"), HasSubstr("No evaluation of these weights")));
}

TEST(ModelCard, ScoresOfOtherWeightsAreRefused) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain);
  write_text_file(dir / "report.json", report_about("5eed"));
  const auto with = [&](const char* report) {
    export_model(ExecutionContext({.threads = 1}), {.model = weights,
                                                    .formats = {ExportFormat::kOnnx},
                                                    .output_dir = dir / "x",
                                                    .evaluation = dir / report,
                                                    .licence = ""});
  };
  EXPECT_THAT([&] { with("report.json"); }, throws_with<InputError>({"evaluates other weights"}));
  EXPECT_THAT([&] { with("w.safetensors"); }, throws_with<InputError>({"no evaluation_report"}));
  EXPECT_FALSE(std::filesystem::exists(dir / "x"));
}

TEST(ModelCard, ScoresComeFromTheRun) {
  const TempDir dir;
  const auto weights = test::write_export_example(dir, kPlain, "final_model.safetensors");
  write_text_file(dir / "metrics.jsonl", "");
  make_directories(dir / "evaluation");
  write_text_file(dir / "evaluation/evaluation_report.json", report_about(sha256_file(weights)));
  export_to(dir / "x", dir.path(), {ExportFormat::kOnnx});
  EXPECT_EQ(Json::parse(read_text_file(dir / "x/model_card.json"))["evaluation"]["data"]["records"],
            9);
}

// The real runtimes, where they are: the folder holds @tensorflow/tfjs and onnxruntime-node.
std::filesystem::path node_modules() {
  const char* folder = std::getenv("STEMFABRIC_NODE_MODULES");
  return folder == nullptr ? test::data_dir() / "../../build/clients" : folder;
}

std::string export_script(const char* name) {
  return (test::data_dir() / "../export" / name).string();
}

Json to_json(const evaluator::Array& array) {
  return {{"shape", array.shape}, {"data", array.values}};
}

// The inputs and the trainer's outputs of every case, as the scripts read them.
std::string cases_json(const std::filesystem::path& weights) {
  const ExecutionContext ctx({.threads = 1});
  const TrainedModel trained = test::open_export_example(ctx, weights);
  const ExportReference reference(trained);
  Json cases = Json::array();
  for (const ExportReference::Case& one : reference.cases()) {
    Json outputs;
    for (const auto& [stem, array] : one.expected) {
      outputs[stem] = to_json(array);
    }
    cases.push_back({{"stem_features", to_json(one.features)},
                     {"mask", to_json(one.mask)},
                     {"outputs", outputs}});
  }
  return cases.dump();
}

TEST(RealRuntimes, AgreeWithTheTrainer) {
  if (!std::filesystem::exists(node_modules() / "node_modules")) {
    GTEST_SKIP() << "TensorFlow.js and ONNX Runtime are not installed; "
                    "scripts/install_deps.sh --clients does it";
  }
  const TempDir dir;
  std::vector<std::string> tfjs;
  std::vector<std::string> onnx;
  for (const ExportVariant& variant : test::export_variants()) {
    const auto weights = test::write_export_example(dir, variant);
    const std::filesystem::path folder = dir / variant.name;
    export_to(folder, weights, {ExportFormat::kTfjs, ExportFormat::kOnnx});
    const std::string cases = (dir / (variant.name + ".json")).string();
    write_text_file(cases, cases_json(weights));
    tfjs.insert(tfjs.end(), {(folder / "tfjs").string(), cases});
    onnx.insert(onnx.end(), {(folder / "model.onnx").string(), cases});
  }
  // Packed weights: what TensorFlow.js makes of them is what the rounded model computes.
  const ModelWeights exact = ModelWeights::load(test::write_export_example(dir, kPlain));
  for (const WebWeights kind : {WebWeights::kFp16, WebWeights::kInt8}) {
    const ModelWeights rounded = rounded_weights(exact, kind);
    const std::filesystem::path folder = dir / web_weights_name(kind);
    make_directories(folder);
    write_tfjs(folder, exact, kind);
    const auto weights = dir / "rounded.safetensors";
    write_weights(weights, rounded.config(), rounded.table(), rounded.block(), rounded.statistics(),
                  {});
    const std::string cases = folder.string() + ".json";
    write_text_file(cases, cases_json(weights));
    tfjs.insert(tfjs.end(), {folder.string(), cases});
  }
  for (const auto& [script, models] :
       {std::pair{"check_tfjs.mjs", tfjs}, {"check_onnx.mjs", onnx}}) {
    std::vector<std::string> command = {"/usr/bin/env", "node", export_script(script),
                                        node_modules().string()};
    command.insert(command.end(), models.begin(), models.end());
    const auto result = test::run_process(command);
    EXPECT_EQ(result.status, 0) << script << "\n" << result.out << result.err;
    std::cout << result.out;
  }
}

// A Python that has h5py, which the first one on the path need not have; empty if there is none.
std::string python_with_h5py() {
  for (const std::string python : {"python3", "/usr/bin/python3"}) {
    if (test::run_process({"/usr/bin/env", python, "-c", "import h5py, numpy"}).status == 0) {
      return python;
    }
  }
  return {};
}

// As a Python user opens the files: every weight against those of the .safetensors file.
TEST(RealRuntimes, H5pyReadsTheTrainersWeights) {
  const std::string python = python_with_h5py();
  if (python.empty()) {
    GTEST_SKIP() << "python3-h5py is not installed; scripts/install_deps.sh --clients does it";
  }
  const TempDir dir;
  std::vector<std::string> command = {"/usr/bin/env", python, export_script("check_keras_h5.py")};
  for (const ExportVariant& variant : test::export_variants()) {
    if (variant.keras) {
      const auto weights = test::write_export_example(dir, variant, variant.name + ".safetensors");
      export_to(dir / variant.name, weights, {ExportFormat::kKerasH5});
      command.insert(command.end(), {dir / (variant.name + "/model.h5"), weights});
    }
  }
  const auto result = test::run_process(command);
  EXPECT_EQ(result.status, 0) << result.out << result.err;
  std::cout << result.out;
}

}  // namespace
}  // namespace stemfabric
