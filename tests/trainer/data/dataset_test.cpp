#include "trainer/data/dataset.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <limits>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/support/mutations.h"
#include "tests/support/paths.h"
#include "trainer/data/shard.h"

namespace stemfabric {
namespace {

using test::TempDir;
using ::testing::HasSubstr;

constexpr int64_t kTokens = 3;
constexpr int64_t kFeatures = 5;
constexpr int64_t kOutputs = 2;

// Tensors of n samples whose every value tells its sample, so that a wrong row shows.
struct Samples {
  Samples(int64_t n, float base)
      : inputs(Tensor::zeros({n, kTokens, kFeatures}, DType::kF32)),
        input_mask(Tensor::zeros({n, kTokens}, DType::kU8)),
        targets(Tensor::zeros({n, 6, kTokens, kOutputs}, DType::kF32)),
        target_mask(Tensor::zeros({n, 6, kTokens, kOutputs}, DType::kU8)),
        stem_weight(Tensor::zeros({n, 6}, DType::kF32)) {
    for (int64_t i = 0; i < n; ++i) {
      const float value = base + static_cast<float>(i);
      std::fill_n(inputs.as<float>() + i * kTokens * kFeatures, kTokens * kFeatures, value);
      std::fill_n(input_mask.as<uint8_t>() + i * kTokens, i % 2 == 0 ? kTokens : 1, uint8_t{1});
      std::fill_n(targets.as<float>() + i * 6 * kTokens * kOutputs, 6 * kTokens * kOutputs, -value);
      std::fill_n(target_mask.as<uint8_t>() + i * 6 * kTokens * kOutputs, 4, uint8_t{1});
      std::fill_n(stem_weight.as<float>() + i * 6, 6, 1.0F);
      stem_weight.as<float>()[i * 6 + 1] = 1.5F;
    }
  }
  ShardTensors tensors() const {
    return {inputs.view(), input_mask.view(), targets.view(), target_mask.view(),
            stem_weight.view()};
  }
  Tensor inputs, input_mask, targets, target_mask, stem_weight;
};

std::string input_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no InputError was thrown";
}

std::string open_error(const std::filesystem::path& folder) {
  return input_error([&] { Dataset dataset(folder); });
}

TEST(Dataset, GathersSamplesAcrossShards) {
  TempDir dir;
  write_shard(dir / shard_file_name(0), Samples(3, 10).tensors(), {"a", "b", "c"});
  write_shard(dir / shard_file_name(1), Samples(2, 20).tensors(), {});
  Dataset dataset(dir.path());
  EXPECT_EQ(dataset.size(), 5);
  EXPECT_EQ(dataset.tokens(), kTokens);
  EXPECT_EQ(dataset.features(), kFeatures);
  EXPECT_EQ(dataset.outputs(), kOutputs);
  EXPECT_EQ(dataset.id(1), "b");
  EXPECT_EQ(dataset.id(4), "shard-00001:1");

  Batch batch(4, kTokens, kFeatures, kOutputs);
  std::fill_n(batch.inputs.as<float>(), batch.inputs.elements(), 99.0F);
  dataset.gather(std::vector<int64_t>{4, 0, 3}, batch);
  EXPECT_EQ(batch.size, 3);
  EXPECT_EQ(batch.samples, (std::vector<int64_t>{4, 0, 3}));
  const float expected[] = {21, 10, 20, 0};
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t k = 0; k < kTokens * kFeatures; ++k) {
      EXPECT_EQ(batch.inputs.as<float>()[row * kTokens * kFeatures + k], expected[row]);
    }
    EXPECT_EQ(batch.targets.as<float>()[row * 6 * kTokens * kOutputs + 5], -expected[row]);
  }
  EXPECT_EQ(batch.input_mask.as<uint8_t>()[2], 0);  // sample 4 has one token
  EXPECT_EQ(batch.input_mask.as<uint8_t>()[5], 1);  // sample 0 has all three
  EXPECT_EQ(batch.stem_weight.as<float>()[1], 1.5F);
  EXPECT_EQ(batch.stem_weight.as<float>()[3 * 6 + 1], 0.0F);  // unused row

  dataset.rescale_corrections(2.0);
  dataset.gather(std::vector<int64_t>{0}, batch);
  EXPECT_EQ(batch.stem_weight.as<float>()[0], 1.0F);
  EXPECT_EQ(batch.stem_weight.as<float>()[1], 2.0F);
  EXPECT_EQ(batch.inputs.as<float>()[kTokens * kFeatures], 0.0F);  // row 1 is cleared again
}

TEST(Dataset, FolderWithManifest) {
  TempDir dir;
  std::filesystem::create_directory(dir / "train");
  std::filesystem::create_directory(dir / "validation");
  const std::string hash =
      write_shard(dir / "train" / shard_file_name(0), Samples(2, 1).tensors(), {});
  write_shard(dir / "validation" / shard_file_name(0), Samples(1, 5).tensors(), {});
  EXPECT_FALSE(open_dataset(dir.path()).statistics);

  const auto manifest = [&](const std::string& shards, const std::string& scale) {
    write_text_file(dir / "manifest.json", R"({"shards":{"train":)" + shards +
                                               R"(},"input":{"mean":[0,1,2,3,4],"scale":)" + scale +
                                               R"(},"correctionWeight":0.5})");
  };
  const std::string listed = R"([{"file":"shard-00000.safetensors","sha256":")" + hash + "\"}]";
  manifest(listed, "[1,1,1,1,0.5]");
  const DatasetFolder folder = open_dataset(dir.path());
  EXPECT_EQ(folder.train->size(), 2);
  EXPECT_EQ(folder.validation->size(), 1);
  EXPECT_EQ(folder.statistics->mean[4], 4.0F);
  EXPECT_EQ(folder.statistics->scale[4], 0.5F);
  EXPECT_EQ(folder.correction_weight, 0.5);
  EXPECT_EQ(folder.hash.size(), 64U);
  // The training split alone is a data set too, with another hash.
  EXPECT_EQ(open_dataset(dir / "train").train->size(), 2);
  EXPECT_NE(open_dataset(dir / "train").hash, folder.hash);

  const auto error = [&] { return input_error([&] { open_dataset(dir.path()); }); };
  manifest(listed, "[1,1,1,1]");
  EXPECT_THAT(error(), HasSubstr("input.scale must be a list of 5 numbers"));
  manifest(listed, "[1,1,1,1,0]");
  EXPECT_THAT(error(), HasSubstr("input.scale[4] must be a finite positive number"));
  manifest(listed, "[1,1,1,1,null]");
  EXPECT_THAT(error(), HasSubstr("input.scale[4]"));
  manifest("[]", "[1,1,1,1,1]");
  EXPECT_THAT(error(), HasSubstr("shards.train"));
  write_text_file(dir / "manifest.json", "{\"shards\":");
  EXPECT_THAT(error(), HasSubstr("manifest.json: is not a JSON object"));
  for (const char* scale : {"[1,1,1]", "1", "[1,1,1,1,1,0.3]", "[1,1,1,1,1,-2]", "[1,1,1,1,1,0]",
                            "[1,1,1,1,1,1e300]", "[1,1,1,1,1,null]"}) {
    write_text_file(dir / "manifest.json", fmt::format(R"({{"targets":{{"scale":{}}}}})", scale));
    EXPECT_THAT(error(), HasSubstr("targets.scale must be a list of 6 powers of two")) << scale;
  }
  write_text_file(dir / "manifest.json", R"({"targets":{"scale":[1,2,0.5,0.0009765625,4,8]}})");
  EXPECT_THAT(open_dataset(dir.path()).target_scale,
              testing::ElementsAre(1, 2, 0.5, 0x1p-10, 4, 8));

  // A changed shard is found by its hash.
  manifest(listed, "[1,1,1,1,1]");
  write_shard(dir / "train" / shard_file_name(0), Samples(2, 2).tensors(), {});
  EXPECT_THAT(error(), HasSubstr("changed or damaged"));
}

// Every entry of a manifest is optional, and hashes may be in upper case.
TEST(Dataset, ManifestsOfOtherProgramsMaySayLess) {
  TempDir dir;
  const std::string hash = write_shard(dir / shard_file_name(0), Samples(2, 1).tensors(), {});
  std::string upper = hash;
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return std::toupper(c); });
  ASSERT_NE(upper, hash);
  const auto error_with = [&](const std::string& text) {
    write_text_file(dir / "manifest.json", text);
    return input_error([&] { open_dataset(dir.path()); });
  };
  const auto listing = [](const std::string& entry) {
    return R"({"shards":{"train":[)" + entry + "]}}";
  };
  for (const std::string& text :
       {listing(R"({"file":"shard-00000.safetensors"})"), listing("{}"),
        listing(R"({"sha256":")" + upper + "\"}"), listing(R"({"file":null,"sha256":null})"),
        std::string(R"({"input":null,"correctionWeight":null,"shards":null})"),
        std::string(R"({"shards":{"train":null}})")}) {
    EXPECT_EQ(error_with(text), "no InputError was thrown") << text;
  }
  EXPECT_FALSE(open_dataset(dir.path()).statistics);

  upper[7] = upper[7] == '0' ? '1' : '0';
  // The shards of a flat folder lie in no folder train.
  EXPECT_THAT(error_with(listing(R"({"sha256":")" + upper + "\"}")),
              ::testing::StartsWith((dir / shard_file_name(0)).string() + ": is not the shard"));
  EXPECT_THAT(error_with(R"({"shards":{"train":[]}})"),
              ::testing::EndsWith("in the folder " + dir.path().string()));
  EXPECT_THAT(error_with(listing(R"({"file":"shard-7"})")), HasSubstr("shards.train[0].file"));
  EXPECT_THAT(error_with(listing("7")), HasSubstr("shards.train[0] is no object"));
}

TEST(Dataset, RefusesBadShardsByFileAndTensor) {
  TempDir dir;
  const std::filesystem::path file = dir / shard_file_name(0);
  EXPECT_THAT(open_error(dir.path()), HasSubstr("holds no shard-*.safetensors"));
  EXPECT_THAT(open_error(dir / "absent"), HasSubstr("absent"));

  const auto error_with = [&](const std::function<void(Samples&, ShardTensors&)>& damage,
                              const std::vector<std::string>& ids = {}) {
    Samples samples(2, 1);
    ShardTensors tensors = samples.tensors();
    damage(samples, tensors);
    write_shard(file, tensors, ids);
    const std::string error = open_error(dir.path());
    EXPECT_THAT(error, HasSubstr("shard-00000.safetensors"));
    return error;
  };
  const float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(error_with([&](Samples& s, ShardTensors&) { s.inputs.as<float>()[17] = kNan; }),
              HasSubstr("tensor inputs holds nan at [1, 0, 2]"));
  EXPECT_THAT(error_with([&](Samples& s, ShardTensors&) { s.targets.as<float>()[1] = INFINITY; }),
              HasSubstr("tensor targets holds inf at [0, 0, 0, 1]"));
  EXPECT_THAT(error_with([&](Samples& s, ShardTensors&) { s.stem_weight.as<float>()[6] = -1; }),
              HasSubstr("tensor stem_weight holds -1 at [1, 0]"));
  EXPECT_THAT(error_with([&](Samples& s, ShardTensors&) { s.input_mask.as<uint8_t>()[4] = 2; }),
              HasSubstr("tensor input_mask holds 2 at [1, 1]"));
  EXPECT_THAT(error_with([&](Samples& s, ShardTensors&) { s.target_mask.as<uint8_t>()[0] = 255; }),
              HasSubstr("tensor target_mask holds 255"));
  const Tensor doubles = Tensor::zeros({2, kTokens, kFeatures}, DType::kF64);
  EXPECT_THAT(error_with([&](Samples&, ShardTensors& t) { t.inputs = doubles.view(); }),
              HasSubstr("tensor inputs is f64"));
  const Tensor five_stems = Tensor::zeros({2, 5, kTokens, kOutputs}, DType::kF32);
  EXPECT_THAT(error_with([&](Samples&, ShardTensors& t) { t.targets = five_stems.view(); }),
              HasSubstr("tensor targets has shape [2, 5, 3, 2]"));
  const Samples three(3, 1);
  EXPECT_THAT(
      error_with([&](Samples&, ShardTensors& t) { t.stem_weight = three.stem_weight.view(); }),
      HasSubstr("tensor stem_weight has shape [3, 6]"));
  EXPECT_THAT(error_with([](Samples&, ShardTensors&) {}, {"only one"}),
              HasSubstr("metadata `ids` is not a JSON list of 2 strings"));

  // Shards that disagree with each other.
  write_shard(file, Samples(2, 1).tensors(), {});
  const Tensor inputs = Tensor::zeros({2, kTokens, kFeatures + 1}, DType::kF32);
  const Samples other(2, 1);
  ShardTensors tensors = other.tensors();
  tensors.inputs = inputs.view();
  write_shard(dir / shard_file_name(1), tensors, {});
  EXPECT_THAT(open_error(dir.path()), HasSubstr("shard-00001.safetensors"));
  std::filesystem::remove(dir / shard_file_name(1));

  // Truncated at any length, and not a safetensors file at all.
  const std::string bytes = read_text_file(file);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{5}, std::size_t{100}, bytes.size() - 1}) {
    write_text_file(file, bytes.substr(0, size));
    EXPECT_THAT(open_error(dir.path()), HasSubstr("shard-00000.safetensors"));
  }
}

TEST(DatasetFolder, DamagedManifestsAreReadOrRefused) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "train");
  const Samples samples(2, 1.0F);
  const std::string hash =
      write_shard(dir / "train/shard-00000.safetensors", samples.tensors(), {"a", "b"});
  // Without a hash of its own, so that the damage is not found by that.
  const std::string manifest =
      R"({"format":"stemfabric-dataset","version":1,"correctionWeight":1.5,)"
      R"("input":{"mean":[0,1,2.5,-3,1e-3],"scale":[1,1,2,2,0.5]},)"
      R"("shards":{"train":[{"file":"shard-00000.safetensors","records":2,"sha256":")" +
      hash + R"("}],"validation":[]}})";
  test::put_file(dir / "manifest.json", manifest);
  EXPECT_EQ(open_dataset(dir.path()).train->size(), 2);
  const auto counts =
      test::read_mutated(dir / "manifest.json", manifest, {.seed = 17, .rounds = 500},
                         [&] { open_dataset(dir.path()); });
  EXPECT_GT(counts.refused, 200);
}

TEST(DatasetFolder, DamagedShardsAreReadOrRefused) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "train");
  const Samples samples(2, 1.0F);
  const auto path = dir / "train/shard-00000.safetensors";
  write_shard(path, samples.tensors(), {"a", "b"});
  const auto counts = test::read_mutated(path, read_text_file(path), {.seed = 18, .rounds = 500},
                                         [&] { open_dataset(dir.path()); });
  EXPECT_GT(counts.refused, 200);
}

}  // namespace
}  // namespace stemfabric
