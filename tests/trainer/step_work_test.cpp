#include "trainer/model/step_work.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "trainer/model/parameter_table.h"

namespace stemfabric::test {
namespace {

ModelConfig model_of(int64_t dim, int64_t depth, const char* placement = "post",
                     const char* positions = "learned") {
  ModelConfig model;
  model.input_dim = 200;
  model.output_dim = 120;
  model.max_sequence_length = 64;
  model.dim = dim;
  model.depth = depth;
  model.heads = 4;
  model.dim_ff = 3 * dim;
  model.norm_placement = placement;
  model.positions = positions;
  return model;
}

double elements_of_kernels(const ModelConfig& model) {
  double sum = 0;
  const ParameterTable table(model);
  for (const ParameterInfo& info : table.entries()) {
    if (info.name.ends_with(".kernel")) {
      sum += static_cast<double>(info.shape.elements());
    }
  }
  return sum;
}

bool is_product(const std::string& kernel) {
  for (const char* name : {"input", "q, k, v", "attention output", "feed-forward", "heads"}) {
    if (kernel.starts_with(name)) {
      return true;
    }
  }
  return false;
}

// Every weight of a kernel takes one multiplication and addition per token in the forward, one for
// its own gradient, and one for the gradient of what it reads (but for the inputs, which have
// none).
TEST(StepWork, ProductsFollowFromTheParameters) {
  for (const ModelConfig& model : {model_of(64, 2), model_of(32, 3, "pre", "rotary")}) {
    const StepSize size{.batch = 3, .tokens = 40, .accumulation = 2};
    double forward = 0, kernels = 0, inputs = 0;
    for (const KernelWork& w : training_step_work(model, {}, size)) {
      if (!is_product(w.kernel)) {
        continue;
      }
      const double flops = static_cast<double>(w.calls) * w.flops;
      if (w.kernel.ends_with("kernel gradient")) {
        kernels += flops;
      } else if (w.kernel.ends_with("input gradient")) {
        inputs += flops;
      } else {
        forward += flops;
      }
    }
    const double rows = 2 * 3 * 40;
    const double weights = elements_of_kernels(model);
    const double input = static_cast<double>(model.input_dim * model.dim);
    EXPECT_DOUBLE_EQ(forward, 2 * rows * weights);
    EXPECT_DOUBLE_EQ(inputs, 2 * rows * (weights - input));
    EXPECT_GT(kernels, 2 * rows * weights);  // and the biases
    EXPECT_LT(kernels, 2.1 * rows * weights);
  }
}

TEST(StepWork, AttentionGrowsWithTheSquareOfTheTokens) {
  const auto flops = [](int64_t tokens) {
    for (const KernelWork& w :
         training_step_work(model_of(64, 2), {}, {.batch = 1, .tokens = tokens})) {
      if (w.kernel == "attention") {
        return w.flops;
      }
    }
    return 0.0;
  };
  EXPECT_DOUBLE_EQ(flops(20), 2.0 * 2 * 20 * 20 * 64);
  EXPECT_DOUBLE_EQ(flops(40), 4 * flops(20));
}

// The same operations; half the bytes where only activations and factors are moved.
TEST(StepWork, Bf16MovesFewerBytes) {
  TrainingConfig bf16;
  bf16.precision = "bf16";
  const StepSize size{.batch = 2, .tokens = 30};
  std::map<std::string, KernelWork> exact;
  for (const KernelWork& w : training_step_work(model_of(64, 2), {}, size)) {
    exact[w.kernel] = w;
  }
  int casts = 0;
  for (const KernelWork& w : training_step_work(model_of(64, 2), bf16, size)) {
    if (w.kernel.ends_with(" to bf16")) {
      ++casts;
      continue;
    }
    ASSERT_TRUE(exact.contains(w.kernel)) << w.kernel;
    EXPECT_EQ(w.flops, exact.at(w.kernel).flops) << w.kernel;
    EXPECT_LE(w.bytes, exact.at(w.kernel).bytes) << w.kernel;
  }
  EXPECT_EQ(casts, 1);  // of the weights
  const auto of = [&](const char* kernel) {
    for (const KernelWork& w : training_step_work(model_of(64, 2), bf16, size)) {
      if (w.kernel == kernel) {
        return w.bytes / exact.at(kernel).bytes;
      }
    }
    return 0.0;
  };
  EXPECT_DOUBLE_EQ(of("feed-forward 2"), 0.5);
  EXPECT_GT(of("feed-forward 1"), 0.5);  // its mask has bits either way
  EXPECT_DOUBLE_EQ(of("residual, dropout, norm"), 0.5);
  EXPECT_DOUBLE_EQ(of("q, k, v"), 0.5);
  // q, k, v, o, o2 (backward: do, dq, dk, dv too); u and statistics stay float32.
  const double dim = 64, heads = 4;
  EXPECT_DOUBLE_EQ(of("attention"),
                   (2 * 5 * dim + 4 * dim + 16 * heads) / (4 * 5 * dim + 4 * dim + 16 * heads));
  EXPECT_DOUBLE_EQ(of("attention, gradient"),
                   (2 * 8 * dim + 4 * dim + 16 * heads) / (4 * 8 * dim + 4 * dim + 16 * heads));
  EXPECT_DOUBLE_EQ(of("adam"), 1);
}

// Products of the forward: scores and values as the CUDA kernels take them (docs/attention.md).
TEST(StepWork, AttentionsProductsDependOnPrecisionAndKind) {
  const auto products = [](const char* precision, const char* activation, double dropout,
                           int64_t head_dim) {
    ModelConfig model = model_of(4 * head_dim, 2);
    model.attention.activation = activation;
    model.attention.dropout = dropout;
    TrainingConfig training;
    training.precision = precision;
    for (const KernelWork& w : training_step_work(model, training, {.batch = 1, .tokens = 20})) {
      if (w.kernel == "attention") {
        return w.our_flops / static_cast<double>(2 * 20 * 20 * model.dim);
      }
    }
    return 0.0;
  };
  EXPECT_EQ(products("fp32", "superposition", 0, 32), 2 + 3);
  EXPECT_EQ(products("fp32", "softmax", 0.1, 32), 2 + 1);
  EXPECT_EQ(products("bf16", "softmax", 0.1, 128), 1 + 1);
  EXPECT_EQ(products("bf16", "superposition_centered", 0, 32), 1 + 4);
  EXPECT_EQ(products("bf16", "superposition_centered", 0, 80), 2 + 4);
  EXPECT_EQ(products("bf16", "superposition_centered", 0.1, 32), 1 + 5);
  EXPECT_EQ(products("bf16", "superposition_centered", 0.1, 64), 2 + 5);
  EXPECT_EQ(products("bf16", "superposition_centered", 0.1, 128), 4 + 5);
}

TEST(StepWork, OnlyWhatIsConfiguredIsCounted) {
  const auto has = [](const ModelConfig& model, const TrainingConfig& training,
                      std::string_view kernel) {
    for (const KernelWork& w : training_step_work(model, training, {.batch = 1, .tokens = 8})) {
      EXPECT_GT(w.bytes, 0) << w.kernel;
      if (w.kernel == kernel) {
        return true;
      }
    }
    return false;
  };
  TrainingConfig averaging;
  averaging.ema_momentum = 0.9;
  EXPECT_FALSE(has(model_of(32, 1), {}, "rotary"));
  EXPECT_TRUE(has(model_of(32, 1, "post", "rotary"), {}, "rotary"));
  EXPECT_FALSE(has(model_of(32, 1), {}, "moving average"));
  EXPECT_TRUE(has(model_of(32, 1), averaging, "moving average"));
}

TEST(StepWork, FloorIsTheLargerOfTheTwoTimes) {
  const KernelWork work{.kernel = "k", .calls = 2, .flops = 50, .bytes = 10, .our_flops = 100};
  EXPECT_DOUBLE_EQ(floor_seconds(work, 10, 10).least, 10);
  EXPECT_DOUBLE_EQ(floor_seconds(work, 10, 10).ours, 20);
  EXPECT_DOUBLE_EQ(floor_seconds(work, 70, 10).least, 2);
  EXPECT_DOUBLE_EQ(floor_seconds(work, 70, 10).ours, 200.0 / 70);
}

// Two products forward, five backward; all else is done once.
TEST(StepWork, TheLeastOfAttentionDoesNotDependOnOurKernels) {
  for (const char* precision : {"fp32", "bf16"}) {
    TrainingConfig training;
    training.precision = precision;
    for (const KernelWork& w :
         training_step_work(model_of(64, 2), training, {.batch = 1, .tokens = 20})) {
      const double product = 2 * 20 * 20 * 64;
      if (w.kernel == "attention") {
        EXPECT_DOUBLE_EQ(w.flops, 2 * product);
        EXPECT_DOUBLE_EQ(w.our_flops, 5 * product);
      } else if (w.kernel == "attention, gradient") {
        EXPECT_DOUBLE_EQ(w.flops, 5 * product);
        EXPECT_DOUBLE_EQ(w.our_flops, 7 * product);
      } else {
        EXPECT_EQ(w.flops, w.our_flops) << w.kernel;
      }
    }
  }
}

// A model of masks: transforms come first, and the loss reads all spectra and writes the gradient
// of the outputs.
TEST(StepWork, MasksAreCountedWithTheirSpectra) {
  ModelConfig model = model_of(64, 2);
  model.mask = "complex";
  model.audio = AudioConfig{};
  model.audio->n_fft = 512;
  model.audio->hop_length = 128;
  const auto work = training_step_work(model, {}, {.batch = 3, .tokens = 40});
  const auto find = [&](const std::string& kernel) {
    for (const KernelWork& w : work) {
      if (w.kernel == kernel) {
        return w;
      }
    }
    return KernelWork{};
  };
  const double samples = 3 * 2 * 39 * 128;
  const double spectra = 3 * 2 * 40 * 257 * 2;
  EXPECT_DOUBLE_EQ(find("mixing").bytes, (6 * 2 + 7 * 4) * samples);
  EXPECT_DOUBLE_EQ(find("stft and features, mixture").bytes,
                   4 * (samples + spectra + 3 * 40 * 200));
  EXPECT_DOUBLE_EQ(find("stft, stems").bytes, 4 * 6 * (samples + spectra));
  EXPECT_DOUBLE_EQ(find("stft, stems").flops, 6 * 3 * 2 * 40 * 2.5 * 512 * 9);
  EXPECT_DOUBLE_EQ(find("mask loss").bytes, 4 * (7 * spectra + 2 * 6 * 3 * 40 * 120));
  EXPECT_EQ(find("stem loss").calls, 0);
  EXPECT_EQ(find("mask loss").calls, 1);
}

}  // namespace
}  // namespace stemfabric::test
