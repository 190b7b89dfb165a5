#include "trainer/evaluation/predict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/io/npy.h"
#include "tests/support/paths.h"
#include "trainer/model/trained_model.h"
#include "trainer/model/weights_file.h"
#include "trainer/stems.h"

namespace stemfabric {
namespace {

using test::TempDir;
using testing::HasSubstr;

constexpr int64_t kSamples = 5;
constexpr int64_t kTokens = 7;

struct Example {
  TempDir dir;
  ModelConfig config;
  Tensor inputs{Shape{kSamples, kTokens, 10}, DType::kF32};
  Tensor mask{Shape{kSamples, kTokens}, DType::kU8};

  Example() {
    config.input_dim = 10;
    config.dim = 16;
    config.heads = 2;
    config.depth = 1;
    config.dim_ff = 32;
    config.output_dim = 6;
    config.max_sequence_length = 9;
    const ParameterTable table(config);
    std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
    table.initialize(block.data(), 3);
    write_weights(dir / "w.safetensors", config, table, block.data(),
                  {std::vector<float>(10, 0.25F), std::vector<float>(10, 2.0F)}, {});
    for (int64_t i = 0; i < inputs.elements(); ++i) {
      inputs.as<float>()[i] = std::sin(0.37F * static_cast<float>(i));
    }
    for (int64_t i = 0; i < mask.elements(); ++i) {
      mask.as<uint8_t>()[i] = i % kTokens < 3 + i / kTokens % 4 ? 1 : 0;
    }
    write_npy(dir / "x.npy", inputs.view());
    write_npy(dir / "m.npy", mask.view());
  }
  PredictRequest request(const std::string& output) const {
    return {.model = dir / "w.safetensors",
            .input = dir / "x.npy",
            .mask = dir / "m.npy",
            .output_dir = dir / output,
            .batch_size = 2};
  }
  std::string refusal(const PredictRequest& wrong) const {
    try {
      predict(ExecutionContext(), wrong);
    } catch (const InputError& error) {
      EXPECT_FALSE(std::filesystem::exists(wrong.output_dir / "vocals.npy"));
      return error.what();
    }
    return "accepted";
  }
};

TEST(Predict, GivesWhatTheModelGives) {
  const Example example;
  predict(ExecutionContext(), example.request("y"));
  const ExecutionContext ctx;
  const TrainedModel trained =
      open_trained_model(ctx, example.dir / "w.safetensors", kSamples, kTokens);
  EXPECT_EQ(trained.model->input_mean().as<float>()[9], 0.25F);
  EXPECT_EQ(trained.model->input_scale().as<float>()[9], 2.0F);
  EXPECT_EQ(trained.sha256, sha256_file(example.dir / "w.safetensors"));
  const ConstTensorView want =
      trained.model->forward(example.inputs.view(), example.mask.view(), false, {});
  for (int s = 0; s < kStemCount; ++s) {
    const Tensor got = read_npy(
        example.dir / ("y/" + std::string(kStemNames[static_cast<std::size_t>(s)]) + ".npy"));
    ASSERT_EQ(got.shape(), Shape({kSamples, kTokens, 6}));
    ASSERT_EQ(got.dtype(), DType::kF32);
    for (int64_t i = 0; i < got.elements(); ++i) {
      const int64_t b = i / (kTokens * 6);
      const int64_t t = i / 6 % kTokens;
      const float value = want.as<float>()[s * want.stride(0) + b * want.stride(1) +
                                           t * want.stride(2) + i % 6 * want.stride(3)];
      // Batches of another size may sum in another order.
      ASSERT_NEAR(got.as<float>()[i], value, 1e-5F * (1 + std::abs(value)));
    }
  }
}

TEST(Predict, DoubleInputsGiveTheSame) {
  const Example example;
  predict(ExecutionContext(), example.request("y"));
  Tensor wide(example.inputs.shape(), DType::kF64);
  std::copy_n(example.inputs.as<float>(), wide.elements(), wide.as<double>());
  write_npy(example.dir / "x64.npy", wide.view());
  PredictRequest request = example.request("z");
  request.input = example.dir / "x64.npy";
  predict(ExecutionContext(), request);
  for (const std::string_view stem : kStemNames) {
    const std::string name = std::string(stem) + ".npy";
    EXPECT_EQ(read_text_file(example.dir / "y" / name), read_text_file(example.dir / "z" / name));
  }
}

// As numpy saves `values` of shape `dims`, transposed: the first axis varies fastest, big-endian.
template <typename T>
void write_transposed(const std::filesystem::path& path, const std::string& descr,
                      const std::vector<int64_t>& dims, const std::vector<T>& values) {
  std::string sizes;
  for (const int64_t dim : dims) {
    sizes += std::to_string(dim) + ", ";
  }
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': True, 'shape': ({}), }}", descr, sizes);
  header.append(63 - (10 + header.size()) % 64, ' ');
  std::string bytes = std::string("\x93NUMPY\x01\0", 8);
  bytes += static_cast<char>(header.size() + 1);
  bytes += '\0';
  bytes += header + '\n';
  for (std::size_t k = 0; k < values.size(); ++k) {
    std::size_t rest = k;
    std::size_t at = 0;
    std::size_t stride = values.size();
    for (const int64_t dim : dims) {
      stride /= static_cast<std::size_t>(dim);
      at += rest % static_cast<std::size_t>(dim) * stride;
      rest /= static_cast<std::size_t>(dim);
    }
    std::string item(reinterpret_cast<const char*>(&values[at]), sizeof(T));
    std::reverse(item.begin(), item.end());
    bytes += item;
  }
  write_text_file(path, bytes);
}

TEST(Predict, TransposedBigEndianArraysGiveTheSame) {
  const Example example;
  predict(ExecutionContext(), example.request("y"));
  const float* x = example.inputs.as<float>();
  const uint8_t* m = example.mask.as<uint8_t>();
  write_transposed<float>(example.dir / "xt.npy", ">f4", {kSamples, kTokens, 10},
                          {x, x + example.inputs.elements()});
  PredictRequest request = example.request("z");
  request.input = example.dir / "xt.npy";
  const auto with_mask = [&]<typename T>(T, const char* descr) {
    write_transposed<T>(example.dir / "mt.npy", descr, {kSamples, kTokens},
                        {m, m + example.mask.elements()});
    request.mask = example.dir / "mt.npy";
    predict(ExecutionContext(), request);
    for (const std::string_view stem : kStemNames) {
      const std::string name = std::string(stem) + ".npy";
      EXPECT_EQ(read_text_file(example.dir / "y" / name), read_text_file(example.dir / "z" / name))
          << descr;
    }
  };
  with_mask(uint8_t{}, "|b1");
  with_mask(int8_t{}, "|i1");
  with_mask(int16_t{}, ">i2");
  with_mask(uint16_t{}, ">u2");
  with_mask(int32_t{}, ">i4");
  with_mask(uint32_t{}, ">u4");
  with_mask(int64_t{}, ">i8");
  with_mask(uint64_t{}, ">u8");
}

TEST(Predict, HalfInputsAreRead) {
  const Example example;
  // Values that float16 holds exactly: 1 to 2 in steps of 1/1024.
  std::vector<uint16_t> half;
  Tensor same(example.inputs.shape(), DType::kF32);
  for (int64_t i = 0; i < same.elements(); ++i) {
    half.push_back(static_cast<uint16_t>(0x3c00 + i * 7 % 1024));
    same.as<float>()[i] = 1 + static_cast<float>(i * 7 % 1024) / 1024;
  }
  write_npy(example.dir / "x.npy", same.view());
  predict(ExecutionContext(), example.request("y"));
  write_transposed<uint16_t>(example.dir / "x.npy", ">f2", {kSamples, kTokens, 10}, half);
  predict(ExecutionContext(), example.request("z"));
  EXPECT_EQ(read_text_file(example.dir / "y/vocals.npy"),
            read_text_file(example.dir / "z/vocals.npy"));
}

TEST(Predict, MaskedTokensChangeNothing) {
  const Example example;
  predict(ExecutionContext(), example.request("y"));
  Tensor changed(example.inputs.shape(), DType::kF32);
  for (int64_t i = 0; i < changed.elements(); ++i) {
    changed.as<float>()[i] =
        example.mask.as<uint8_t>()[i / 10] != 0 ? example.inputs.as<float>()[i] : 5.0F;
  }
  write_npy(example.dir / "x.npy", changed.view());
  predict(ExecutionContext(), example.request("z"));
  const Tensor a = read_npy(example.dir / "y/bass.npy");
  const Tensor b = read_npy(example.dir / "z/bass.npy");
  for (int64_t i = 0; i < a.elements(); ++i) {
    if (example.mask.as<uint8_t>()[i / 6] != 0) {
      ASSERT_EQ(a.as<float>()[i], b.as<float>()[i]);
    }
  }
}

TEST(Predict, NoSamplesGiveEmptyArrays) {
  const Example example;
  write_npy(example.dir / "x.npy", Tensor(Shape{0, kTokens, 10}, DType::kF32).view());
  PredictRequest request = example.request("y");
  request.mask.clear();
  predict(ExecutionContext(), request);
  EXPECT_EQ(read_npy(example.dir / "y/sub.npy").shape(), Shape({0, kTokens, 6}));
}

TEST(Predict, WrongFilesAreRefused) {
  const Example example;
  const auto with_input = [&](const Tensor& tensor) {
    write_npy(example.dir / "bad.npy", tensor.view());
    PredictRequest request = example.request("y");
    request.input = example.dir / "bad.npy";
    request.mask.clear();
    return example.refusal(request);
  };
  EXPECT_THAT(
      with_input(Tensor::zeros({5, 7, 9}, DType::kF32)),
      HasSubstr("bad.npy: expected an array [samples, tokens, 10] of f16, f32 or f64, found "
                "[5, 7, 9] f32"));
  EXPECT_THAT(with_input(Tensor::zeros({5, 10}, DType::kF32)), HasSubstr("found [5, 10] f32"));
  EXPECT_THAT(with_input(Tensor::zeros({5, 0, 10}, DType::kF32)), HasSubstr("found [5, 0, 10]"));
  EXPECT_THAT(with_input(Tensor::zeros({5, 7, 10}, DType::kI32)),
              HasSubstr("found [5, 7, 10] i32"));
  EXPECT_THAT(with_input(Tensor::zeros({1, 10, 10}, DType::kF32)), HasSubstr("at most 9"));
  Tensor infinite = Tensor::zeros({5, 7, 10}, DType::kF64);
  infinite.as<double>()[4 * 70 + 2 * 10 + 3] = 1e300;
  EXPECT_THAT(with_input(infinite), HasSubstr("element [4, 2, 3]"));

  const auto with_mask = [&](const Tensor& tensor) {
    write_npy(example.dir / "bad.npy", tensor.view());
    PredictRequest request = example.request("y");
    request.mask = example.dir / "bad.npy";
    return example.refusal(request);
  };
  EXPECT_THAT(with_mask(Tensor::zeros({5, 6}, DType::kU8)),
              HasSubstr("bad.npy: expected a mask [5, 7] of bool or integers"));
  EXPECT_THAT(with_mask(Tensor::zeros({5, 7}, DType::kF32)), HasSubstr("found [5, 7] f32"));
  Tensor odd = Tensor::zeros({5, 7}, DType::kU8);
  odd.as<uint8_t>()[9] = 255;
  EXPECT_THAT(with_mask(odd), HasSubstr("element [1, 2] is 255"));
  Tensor negative = Tensor::zeros({5, 7}, DType::kI64);
  negative.as<int64_t>()[9] = -1;
  EXPECT_THAT(with_mask(negative), HasSubstr("element [1, 2] is -1"));

  PredictRequest request = example.request("y");
  request.model = example.dir / "none.safetensors";
  EXPECT_THAT(example.refusal(request), HasSubstr("none.safetensors"));
  request.model = example.dir / "x.npy";
  EXPECT_THAT(example.refusal(request), HasSubstr("x.npy"));
  request.model = example.dir.path();
  EXPECT_THAT(example.refusal(request), HasSubstr("holds no model"));
}

TEST(TrainedModel, WeightsOfARunFolder) {
  const TempDir dir;
  namespace fs = std::filesystem;
  const auto touch = [&](const char* name) {
    fs::create_directories((dir / name).parent_path());
    write_text_file(dir / name, "");
    return dir / name;
  };
  touch("checkpoints/step-000090/optimizer.safetensors");
  touch("checkpoints/step-0000100.partial-1-2/model.safetensors");
  EXPECT_THROW(find_weights(dir.path()), InputError);
  touch("checkpoints/step-000009/model.safetensors");
  const fs::path late = touch("checkpoints/step-1000000/model.safetensors");
  touch("checkpoints/step-999999/model.safetensors");
  EXPECT_EQ(find_weights(dir.path()), late);
  EXPECT_EQ(find_weights(dir / "checkpoints/step-000009"),
            dir / "checkpoints/step-000009/model.safetensors");
  const fs::path best = touch("checkpoints/best_model.safetensors");
  EXPECT_EQ(find_weights(dir.path()), best);
  const fs::path final_model = touch("final_model.safetensors");
  EXPECT_EQ(find_weights(dir.path()), final_model);
  EXPECT_EQ(find_weights(best), best);
  EXPECT_THROW(find_weights(dir / "elsewhere"), InputError);
  EXPECT_EQ(run_folder_of(late), fs::path());
  touch("metrics.jsonl");
  EXPECT_EQ(run_folder_of(late), dir.path());
  EXPECT_EQ(run_folder_of(final_model), dir.path());
}

// A finished run that was taken up again and interrupted.
TEST(FindWeights, WarnsOfCheckpointsBehindTheFinalModel) {
  namespace fs = std::filesystem;
  const Example example;
  const fs::path run = example.dir / "run";
  const ParameterTable table(example.config);
  std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
  table.initialize(block.data(), 3);
  const auto write = [&](const std::string& name, const std::string& step) {
    fs::create_directories((run / name).parent_path());
    write_weights(run / name, example.config, table, block.data(),
                  {std::vector<float>(10, 0.0F), std::vector<float>(10, 1.0F)}, {{"step", step}});
  };
  const auto warning = [&] {
    testing::internal::CaptureStderr();
    EXPECT_EQ(find_weights(run), run / "final_model.safetensors");
    return testing::internal::GetCapturedStderr();
  };
  write("final_model.safetensors", "2");
  write("checkpoints/step-000002/model.safetensors", "2");
  EXPECT_EQ(warning(), "");
  write("checkpoints/step-000025/model.safetensors", "25");
  EXPECT_THAT(warning(), testing::AllOf(HasSubstr("is of step 2, but"), HasSubstr("of step 25"),
                                        HasSubstr("step-000025/model.safetensors")));
  write("final_model.safetensors", "25");
  EXPECT_EQ(warning(), "");
}

}  // namespace
}  // namespace stemfabric
