#include "trainer/separation/separate_signal.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "runtime/core/check.h"
#include "tests/trainer/separation/mask_weights.h"
#include "trainer/separation/share_residual.h"

namespace stemfabric {
namespace {

using test::mask_model;
using test::TempDir;

constexpr int64_t kHop = 128;

class SeparateSignal : public testing::Test {
 protected:
  // Random weights; `change` may edit the block.
  SeparationModel make(const ModelConfig& config,
                       const std::function<void(const ParameterTable&, float*)>& change = {},
                       const ExecutionContext* ctx = nullptr) {
    const ParameterTable table(config);
    std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
    table.initialize(block.data(), 7);
    if (change) {
      change(table, block.data());
    }
    const auto file = folder_ / "w.safetensors";
    write_weights(file, config, table, block.data(), {}, {});
    return open_separation_model(ctx != nullptr ? *ctx : ctx_, file);
  }

  // Planar stereo in, [6, 2, N] out.
  Tensor run(SeparationModel& model, const SeparationOptions& options,
             const std::vector<float>& interleaved) {
    const auto n = static_cast<int64_t>(interleaved.size()) / 2;
    const std::vector<float> signal = test::planar(interleaved);
    Tensor out = Tensor::zeros({kStemCount, 2, n}, DType::kF32);
    int64_t read = 0;
    int64_t written = 0;
    separate_signal(
        model, options, n,
        [&](int64_t frames, float* planar, int64_t stride) {
          for (int64_t c = 0; c < 2; ++c) {
            std::copy_n(signal.data() + c * n + read, frames, planar + c * stride);
          }
          read += frames;
        },
        [&](const ConstTensorView& stems) {
          for (int64_t s = 0; s < kStemCount; ++s) {
            for (int64_t c = 0; c < 2; ++c) {
              std::copy_n(stems.as<float>() + s * stems.stride(0) + c * stems.stride(1),
                          stems.dim(2), out.as<float>() + (s * 2 + c) * n + written);
            }
          }
          written += stems.dim(2);
        });
    EXPECT_EQ(read, n);
    EXPECT_EQ(written, n);
    return out;
  }

  TempDir folder_;
  ExecutionContext ctx_{ExecutionContext::Options{.threads = 2}};
};

float largest_difference(const Tensor& a, const Tensor& b) {
  float largest = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const float difference = std::abs(a.as<float>()[i] - b.as<float>()[i]);
    largest = std::isnan(difference) ? difference : std::max(largest, difference);
  }
  return largest;
}

float largest(const Tensor& a) {
  return largest_difference(a, Tensor::zeros(a.shape(), DType::kF32));
}

std::vector<float> song(int64_t frames) {
  std::vector<std::vector<float>> stems;
  for (int s = 0; s < kStemCount; ++s) {
    stems.push_back(test::tiny_stem(0, s, frames));
  }
  const std::vector<float> rest = test::noise(frames, 3);
  stems.push_back(rest);
  return test::sum(stems);
}

// A model without attention and positions makes the same of a frame in any chunk, so that only
// the cutting and joining can make a difference.
TEST_F(SeparateSignal, ChunkedEqualsUnchunked) {
  for (const char* mask : {"real", "complex"}) {
    SeparationModel model = make(mask_model(mask, 0, 2));
    for (const int64_t frames : {int64_t{24000}, int64_t{12289}, 12 * kHop}) {
      const std::vector<float> signal = song(frames);
      const Tensor whole = run(model, {.num_overlap = 1, .chunk_frames = 4096}, signal);
      ASSERT_GT(largest(whole), 0.05F);
      for (const int64_t chunk : {33, 100}) {
        for (const int64_t overlap : {1, 2, 4}) {
          const Tensor chunked =
              run(model, {.num_overlap = overlap, .chunk_frames = chunk}, signal);
          EXPECT_LE(largest_difference(chunked, whole), 1e-5F)
              << mask << ", " << frames << " frames in chunks of " << chunk << ", overlap "
              << overlap;
        }
      }
    }
  }
}

TEST_F(SeparateSignal, AMaskOfOneGivesTheMixtureOfAnyLength) {
  SeparationModel model =
      make(mask_model("real", 1), [](const ParameterTable& table, float* block) {
        test::set_constant_outputs(table, 40.0F, -80.0F, block);
      });
  for (const int64_t frames : {1, 100, 256, 257, 511, 512, 513, 4096, 4097, 30000}) {
    const std::vector<float> signal = song(frames);
    const Tensor stems = run(model, {.gain = 3.7}, signal);
    const std::vector<float> want = test::planar(signal);
    for (int64_t i = 0; i < 2 * frames; ++i) {
      ASSERT_NEAR(stems.as<float>()[i], want[static_cast<std::size_t>(i)], 2e-6F)
          << frames << " frames, at " << i;
      ASSERT_LE(std::abs(stems.as<float>()[2 * frames + i]), 1e-6F);
    }
  }
}

TEST_F(SeparateSignal, ResidualMakesTheStemsSumToTheMixture) {
  SeparationModel model = make(mask_model("complex", 1, 2));
  const std::vector<float> signal = song(30000);
  const std::vector<float> want = test::planar(signal);
  const auto error_of_sum = [&](bool residual) {
    const Tensor stems = run(model, {.residual = residual}, signal);
    float error = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      float sum = 0;
      for (std::size_t s = 0; s < kStemCount; ++s) {
        sum += stems.as<float>()[s * want.size() + i];
      }
      error = std::max(error, std::abs(sum - want[i]));
    }
    return error;
  };
  EXPECT_LE(error_of_sum(true), 5e-6F);
  EXPECT_GT(error_of_sum(false), 1e-2F);
}

TEST_F(SeparateSignal, ResidualIsSharedByEnergyAndEvenlyOfNothing) {
  Tensor mixture({1, 1, 1, 2, 2}, DType::kF32);
  const float x[4] = {10, 0, 6, -6};
  std::copy_n(x, 4, mixture.as<float>());
  Tensor stems = Tensor::zeros({kStemCount, 1, 1, 1, 2, 2}, DType::kF32);
  stems.as<float>()[0] = 1;  // vocals of bin 0: power 1
  stems.as<float>()[4] = 2;  // drums of bin 0: power 4
  share_residual(mixture.view(), stems.view());
  EXPECT_FLOAT_EQ(stems.as<float>()[0], 1 + 7 * 0.2F);
  EXPECT_FLOAT_EQ(stems.as<float>()[4], 2 + 7 * 0.8F);
  for (int s = 0; s < kStemCount; ++s) {
    EXPECT_FLOAT_EQ(stems.as<float>()[4 * s + 2], 1);
    EXPECT_FLOAT_EQ(stems.as<float>()[4 * s + 3], -1);
  }
}

TEST_F(SeparateSignal, TheSameBitsForAnyNumberOfThreads) {
  const std::vector<float> signal = song(20000);
  SeparationModel model = make(mask_model("complex", 2, 2));
  const Tensor two = run(model, {}, signal);
  const ExecutionContext one_thread(ExecutionContext::Options{.threads = 1});
  SeparationModel again = make(mask_model("complex", 2, 2), {}, &one_thread);
  EXPECT_EQ(largest_difference(two, run(again, {}, signal)), 0);
}

TEST_F(SeparateSignal, RefusesOtherModels) {
  const auto error = [&](const ModelConfig& config) -> std::string {
    try {
      make(config);
    } catch (const InputError& caught) {
      return caught.what();
    }
    return "no error";
  };
  ModelConfig snapshots = mask_model("real", 1);
  snapshots.mask = "none";
  snapshots.audio.reset();
  EXPECT_NE(error(snapshots).find("is a model of snapshots, which makes no masks"),
            std::string::npos);
  ModelConfig odd = mask_model("real", 1);
  odd.audio->n_fft = 700;
  EXPECT_NE(error(odd).find("n_fft 700"), std::string::npos);
  ModelConfig sizes = mask_model("real", 1);
  sizes.mask_bands = 16;
  EXPECT_NE(error(sizes).find("32 outputs"), std::string::npos);
}

}  // namespace
}  // namespace stemfabric
