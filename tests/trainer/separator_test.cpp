// The model against its float64 oracle in all variants, and the properties that training relies on.
#include "trainer/model/separator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "tests/support/bf16.h"
#include "tests/support/op_harness.h"
#include "tests/trainer/model_step.h"

namespace stemfabric::test {
namespace {

struct Variant {
  std::string name;
  std::function<void(ModelConfig&)> change;
};

const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {
      {"post_learned", [](ModelConfig&) {}},
      {"pre_learned", [](ModelConfig& c) { c.norm_placement = "pre"; }},
      {"post_rotary", [](ModelConfig& c) { c.positions = "rotary"; }},
      {"pre_rotary_softmax",
       [](ModelConfig& c) {
         c.norm_placement = "pre";
         c.positions = "rotary";
         c.rotary_base = 100;
         c.attention.activation = "softmax";
       }},
      {"none_normalized",
       [](ModelConfig& c) {
         c.positions = "none";
         c.attention.activation = "superposition_normalized";
       }},
      {"superposition_other_coefficients",
       [](ModelConfig& c) {
         c.attention.activation = "superposition";
         c.attention.alpha = 0.2;
         c.attention.beta = 0.5;
         c.attention.gamma = 0.1;
       }},
      {"post_dropout",
       [](ModelConfig& c) {
         c.attn_dropout = 0.3;
         c.ff_dropout = 0.2;
       }},
      {"pre_all_dropout",
       [](ModelConfig& c) {
         c.norm_placement = "pre";
         c.attn_dropout = 0.2;
         c.ff_dropout = 0.3;
         c.attention.dropout = 0.25;
       }},
      {"post_weight_dropout", [](ModelConfig& c) { c.attention.dropout = 0.4; }},
      // Other proportions, so that the arena is laid out in other ways.
      {"wide_feed_forward",
       [](ModelConfig& c) {
         c.dim_ff = 150;
         c.attn_dropout = c.ff_dropout = 0.1;
       }},
      {"wide_feed_forward_pre",
       [](ModelConfig& c) {
         c.dim_ff = 150;
         c.norm_placement = "pre";
       }},
      {"deep_narrow",
       [](ModelConfig& c) {
         c.depth = 4;
         c.dim_ff = 3;
         c.output_dim = 1;
       }},
      {"wide_output", [](ModelConfig& c) { c.output_dim = 40; }},
      {"no_blocks", [](ModelConfig& c) { c.depth = 0; }},
      {"no_blocks_pre",
       [](ModelConfig& c) {
         c.depth = 0;
         c.norm_placement = "pre";
       }},
  };
  return all;
}

constexpr Separator::StepRandom kRandom{.seed = 11, .step = 5, .sample0 = 3};

struct Problem {
  explicit Problem(const ModelConfig& config, int threads = 2, DType precision = DType::kF32)
      : model(test_context(threads), config,
              {.batch = 3, .tokens = 7, .training = true, .precision = precision}),
        batch(config, 3, 7, 21) {
    randomize(model, 4);
    std::vector<float> mean, scale;
    for (int64_t f = 0; f < config.input_dim; ++f) {
      mean.push_back(0.1f * static_cast<float>(f));
      scale.push_back(1.0f + 0.2f * static_cast<float>(f));
    }
    write_block(model.input_mean(), mean);
    write_block(model.input_scale(), scale);
  }
  ModelOracle oracle(bool training) {
    ModelOracle o;
    o.config = model.config();
    o.parameters = named_parameters(model.parameters(), model.weights());
    o.mean = widen(block_values(model.input_mean()));
    o.scale = widen(block_values(model.input_scale()));
    o.training = training;
    o.seed = kRandom.seed;
    o.step = kRandom.step;
    o.sample0 = kRandom.sample0;
    return o;
  }
  LossOracle loss_oracle() const {
    return {widen(batch.loss.target), widen(batch.loss.target_mask), widen(batch.loss.key_mask),
            widen(batch.loss.weight)};
  }
  Separator model;
  TestBatch batch;
};

class SeparatorVariant : public testing::TestWithParam<Variant> {
 protected:
  static ModelConfig config() {
    ModelConfig c = tiny_config();
    GetParam().change(c);
    return c;
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, SeparatorVariant, testing::ValuesIn(variants()),
                         [](const auto& test) { return test.param.name; });

TEST_P(SeparatorVariant, ForwardFollowsTheFormulas) {
  Problem p(config());
  const std::vector<double> x = widen(p.batch.x);
  const std::vector<double> mask = widen(p.batch.loss.key_mask);
  for (const bool training : {true, false}) {
    const ModelOracle oracle = p.oracle(training);
    const auto reference = oracle.forward<double>(x, mask, 3, 7);
    const auto naive = oracle.forward<float>(x, mask, 3, 7);
    const auto prediction =
        run_forward(p.model, p.batch.inputs(), p.batch.mask(), training, kRandom);
    expect_within_bound("output", widen(block_values(prediction)), widen(naive.output),
                        reference.output);
    if (training) {
      const auto taps = p.model.taps();
      EXPECT_EQ(taps.size(), reference.taps.size());
      for (const auto& [name, values] : reference.taps) {
        expect_within_bound(name, widen(block_values(taps.at(name).view())),
                            widen(naive.taps.at(name)), values);
      }
    }
  }
}

// Every parameter's gradient against differences of the oracle's loss. The gradient is float32:
// the tolerance is what rounding of a model of this size costs, not that of the differences.
TEST_P(SeparatorVariant, GradientsAreThoseOfTheLoss) {
  Problem p(config());
  const StepLoss loss = forward_backward(test_context(2), p.model, p.batch, kRandom);
  ModelOracle oracle = p.oracle(true);
  const LossOracle loss_oracle = p.loss_oracle();
  const std::vector<double> x = widen(p.batch.x);
  const std::vector<double> mask = widen(p.batch.loss.key_mask);
  const auto evaluate = [&] {
    return loss_oracle(oracle.forward<double>(x, mask, 3, 7).output, 3, 7,
                       oracle.config.output_dim);
  };
  EXPECT_NEAR(loss.total(), evaluate(), 1e-6 * loss.total());
  const auto gradients = named_parameters(p.model.parameters(), p.model.gradients());
  for (auto& [name, values] : oracle.parameters) {
    expect_gradient(name, values, evaluate, gradients.at(name),
                    {.step = 1e-5, .tolerance = 1e-6, .samples = 3});
  }
}

// Against the float64 oracle, and not nearer than bf16 can be.
TEST_P(SeparatorVariant, Bf16ForwardFollowsTheFormulas) {
  Problem p(config(), 2, DType::kBF16);
  const auto reference =
      p.oracle(true).forward<double>(widen(p.batch.x), widen(p.batch.loss.key_mask), 3, 7);
  const auto prediction = run_forward(p.model, p.batch.inputs(), p.batch.mask(), true, kRandom);
  const double error = rms_distance(widen(block_values(prediction)), reference.output);
  EXPECT_LT(error, bf16_forward_bound(config().depth) * rms(reference.output));
  EXPECT_GT(error, 0x1p-12 * rms(reference.output));
  for (const auto& [name, tap] : p.model.taps()) {
    const std::vector<double>& values = reference.taps.at(name);
    EXPECT_LT(rms_distance(widen(block_values(tap.view())), values),
              bf16_forward_bound(config().depth) * rms(values))
        << name;
  }
}

// Beside the float32 model's gradients. Gradients that cancel are measured by the size of all.
TEST_P(SeparatorVariant, Bf16GradientsAreThoseOfFloat32Rounded) {
  const auto gradients = [&](DType precision) {
    Problem p(config(), 2, precision);
    forward_backward(test_context(2), p.model, p.batch, kRandom);
    return named_parameters(p.model.parameters(), p.model.gradients());
  };
  const auto float32 = gradients(DType::kF32);
  std::vector<double> all;
  for (const auto& [name, values] : float32) {
    all.insert(all.end(), values.begin(), values.end());
  }
  for (const auto& [name, values] : gradients(DType::kBF16)) {
    EXPECT_LT(rms_distance(values, float32.at(name)),
              bf16_gradient_bound(config().depth) * std::max(rms(float32.at(name)), rms(all)))
        << name;
  }
}

void expect_no_bit_depends_on_threads(const ModelConfig& config, DType precision) {
  std::vector<float> outputs;
  std::vector<float> gradients;
  for (const int threads : {1, 2, 3}) {
    Problem p(config, threads, precision);
    const ExecutionContext& ctx = test_context(threads);
    const auto prediction = run_forward(p.model, p.batch.inputs(), p.batch.mask(), true, kRandom);
    const std::vector<float> values = block_values(prediction);
    run_loss(ctx, prediction, p.batch.loss, p.model.output_gradient());
    p.model.backward();
    if (threads == 1) {
      outputs = values;
      gradients = block_values(p.model.gradients());
    }
    EXPECT_EQ(values, outputs) << threads << " threads";
    EXPECT_EQ(block_values(p.model.gradients()), gradients) << threads << " threads";
  }
}

TEST_P(SeparatorVariant, NoBitDependsOnTheNumberOfThreads) {
  for (const DType precision : {DType::kF32, DType::kBF16}) {
    expect_no_bit_depends_on_threads(config(), precision);
  }
}

// Two halves that share the denominators of the loss and continue the sample numbers add up to the
// gradient of the whole: dropout does not see the split either.
TEST_P(SeparatorVariant, AccumulatedGradientsEqualThoseOfOneBatch) {
  const ExecutionContext& ctx = test_context(2);
  Problem p(config());
  const int64_t outputs = p.model.config().output_dim;
  const std::vector<double> count = count_present(ctx, p.batch.loss, {kStemCount, 3, 7, outputs});
  const StepLoss whole_loss = forward_backward(ctx, p.model, p.batch, kRandom, count);
  const std::vector<float> whole = block_values(p.model.gradients());
  zero(p.model.gradients());
  double parts_loss = 0;
  for (const auto& [begin, size] : {std::pair<int64_t, int64_t>{0, 2}, {2, 1}}) {
    Separator::StepRandom random = kRandom;
    random.sample0 += begin;
    parts_loss += forward_backward(ctx, p.model, p.batch.slice(begin, size), random, count).total();
  }
  EXPECT_NEAR(parts_loss, whole_loss.total(), 1e-6 * whole_loss.total());
  const std::vector<float> parts = block_values(p.model.gradients());
  float largest = 0;
  for (const float g : whole) {
    largest = std::max(largest, std::abs(g));
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    ASSERT_NEAR(parts[i], whole[i], 4e-6 * largest) << i;
  }
}

// Hands out memory full of NaN and remembers the arena, so that a test can spoil it again.
class PoisoningResource final : public MemoryResource {
 public:
  void* allocate(std::size_t bytes, const char* purpose) override {
    void* memory = host_resource().allocate(bytes, purpose);
    std::memset(memory, 0xFF, bytes);
    if (std::string_view(purpose) == "activations") {
      arena_ = memory;
      arena_bytes_ = bytes;
    }
    return memory;
  }
  void deallocate(void* pointer, std::size_t bytes) noexcept override {
    host_resource().deallocate(pointer, bytes);
  }
  Device device() const override { return {}; }
  std::string_view name() const override { return "poisoning"; }
  void poison_arena() const { std::memset(arena_, 0xFF, arena_bytes_); }

 private:
  void* arena_ = nullptr;
  std::size_t arena_bytes_ = 0;
};

// Nothing is read before it is written, in whatever order passes of different sizes follow each
// other.
TEST_P(SeparatorVariant, PassesDoNotDependOnOldContentsOfTheArena) {
  if (!test_context().is_cpu()) {
    GTEST_SKIP() << "the poisoned memory is the host's";
  }
  PoisoningResource resource;
  const ExecutionContext ctx({.threads = 2, .resource = &resource});
  Problem clean(config());
  Separator model(ctx, config(), {.batch = 5, .tokens = 9, .training = true});
  copy_block(model.weights(), clean.model.weights());
  copy_block(model.input_mean(), clean.model.input_mean());
  copy_block(model.input_scale(), clean.model.input_scale());
  const TestBatch larger(config(), 5, 9, 77);
  const auto inference =
      block_values(run_forward(clean.model, clean.batch.inputs(), clean.batch.mask(), false, {}));
  forward_backward(test_context(2), clean.model, clean.batch, kRandom);
  for (int round = 0; round < 3; ++round) {
    resource.poison_arena();
    if (round == 1) {
      forward_backward(ctx, model, larger, kRandom);
      zero(model.gradients());
    }
    EXPECT_EQ(block_values(run_forward(model, clean.batch.inputs(), clean.batch.mask(), false, {})),
              inference);
    forward_backward(ctx, model, clean.batch, kRandom);
    EXPECT_EQ(block_values(model.gradients()), block_values(clean.model.gradients()));
    zero(model.gradients());
  }
}

TEST_P(SeparatorVariant, InferencePlanGivesTheSameBitsInLessMemory) {
  Problem p(config());
  Separator inference(test_context(2), config(), {.batch = 3, .tokens = 7, .training = false});
  copy_block(inference.weights(), p.model.weights());
  copy_block(inference.input_mean(), p.model.input_mean());
  copy_block(inference.input_scale(), p.model.input_scale());
  for (const ConstTensorView& mask : {p.batch.mask(), ConstTensorView()}) {
    const auto expected = block_values(run_forward(p.model, p.batch.inputs(), mask, false, {}));
    EXPECT_EQ(block_values(run_forward(inference, p.batch.inputs(), mask, false, {})), expected);
  }
  EXPECT_LT(inference.activation_bytes(), p.model.activation_bytes());
  EXPECT_EQ(inference.parameter_bytes() * 2, p.model.parameter_bytes());
}

TEST_P(SeparatorVariant, PaddedTokensInfluenceNothing) {
  Problem p(config());
  const auto run = [&] {
    const auto prediction = run_forward(p.model, p.batch.inputs(), p.batch.mask(), true, kRandom);
    const std::vector<float> outputs = block_values(prediction);
    run_loss(test_context(2), prediction, p.batch.loss, p.model.output_gradient());
    zero(p.model.gradients());
    p.model.backward();
    return outputs;
  };
  const std::vector<float> before = run();
  const std::vector<float> gradients = block_values(p.model.gradients());
  const int64_t features = p.model.config().input_dim;
  for (std::size_t i = 0; i < p.batch.x.size(); ++i) {
    if (p.batch.loss.key_mask[i / static_cast<std::size_t>(features)] == 0) {
      p.batch.x[i] = 1e3f * (1 + static_cast<float>(i % 7));
    }
  }
  const std::vector<float> after = run();
  const auto width = static_cast<std::size_t>(p.model.config().output_dim);
  int padded = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (p.batch.loss.key_mask[i / width % 21] != 0) {
      EXPECT_EQ(after[i], before[i]) << i;
    } else {
      ++padded;
    }
  }
  EXPECT_GT(padded, 0);
  const std::vector<float> spoiled = block_values(p.model.gradients());
  for (std::size_t i = 0; i < spoiled.size(); ++i) {
    ASSERT_EQ(spoiled[i], gradients[i]) << i;
  }
}

TEST(Separator, DropoutIsRepeatableAndNewInEachStep) {
  ModelConfig config = tiny_config();
  config.attn_dropout = config.ff_dropout = 0.5;
  Problem p(config);
  const auto run = [&](const Separator::StepRandom& random, bool training) {
    return block_values(run_forward(p.model, p.batch.inputs(), p.batch.mask(), training, random));
  };
  const auto first = run(kRandom, true);
  EXPECT_EQ(run(kRandom, true), first);
  EXPECT_NE(run({.seed = 11, .step = 6, .sample0 = 3}, true), first);
  EXPECT_NE(run({.seed = 12, .step = 5, .sample0 = 3}, true), first);
  EXPECT_NE(run({.seed = 11, .step = 5, .sample0 = 4}, true), first);
  EXPECT_EQ(run(kRandom, false), run({}, false));  // inference has no randomness
}

TEST(Separator, GradientsAddUp) {
  Problem p(tiny_config());
  forward_backward(test_context(2), p.model, p.batch);
  const auto once = block_values(p.model.gradients());
  forward_backward(test_context(2), p.model, p.batch);
  const auto twice = block_values(p.model.gradients());
  float largest = 0;
  for (const float g : once) {
    largest = std::max(largest, std::abs(g));
  }
  for (std::size_t i = 0; i < once.size(); ++i) {
    ASSERT_NEAR(twice[i], 2 * once[i], 2e-6 * largest);
  }
  EXPECT_GT(largest, 0);
}

TEST(Separator, RefusesWhatItCannotRun) {
  Problem p(tiny_config());  // at most 9 tokens
  const TestBatch too_long(tiny_config(), 1, 10, 1);
  try {
    run_forward(p.model, too_long.inputs(), {}, false, {});
    FAIL();
  } catch (const InputError& e) {
    EXPECT_NE(std::string(e.what()).find("10 tokens"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("max_sequence_length"), std::string::npos) << e.what();
  }
  ModelConfig wider = tiny_config();
  wider.input_dim = 6;
  const TestBatch other_features(wider, 1, 3, 1);
  EXPECT_THROW(run_forward(p.model, other_features.inputs(), {}, false, {}), InputError);
  expect_contract_error({"planned for 3 samples of 7 tokens"}, [&] {
    const TestBatch larger(tiny_config(), 4, 7, 1);
    run_forward(p.model, larger.inputs(), {}, false, {});
  });
  run_forward(p.model, p.batch.inputs(), {}, false, {});
  expect_contract_error({"backward()"}, [&] { p.model.backward(); });
  forward_backward(test_context(2), p.model, p.batch);
  expect_contract_error({"backward()"}, [&] { p.model.backward(); });
  expect_contract_error({"taps()"}, [&] { p.model.taps(); });
  Separator inference(test_context(), tiny_config(), {.batch = 3, .tokens = 7});
  expect_contract_error({"inference"}, [&] { inference.gradients(); });
  expect_contract_error({"inference"},
                        [&] { run_forward(inference, p.batch.inputs(), {}, true, {}); });
  ModelConfig unknown = tiny_config();
  unknown.attention.activation = "relu";
  EXPECT_THROW(Separator(test_context(), unknown, {}), ConfigError);
}

ModelConfig default_model(int64_t tokens) {
  ModelConfig c;
  c.input_dim = c.output_dim = 256;
  c.max_sequence_length = tokens;
  return c;
}

TEST(ActivationPlan, GrowsLinearlyAndStaysSmall) {
  const auto bytes = [](int64_t tokens, bool training) {
    return static_cast<double>(plan_activation_bytes(
        default_model(tokens), {.batch = 8, .tokens = tokens, .training = training}));
  };
  for (const bool training : {true, false}) {
    EXPECT_NEAR(bytes(1024, training) / bytes(256, training), 4, 0.01);
    EXPECT_NEAR(bytes(4096, training) / bytes(256, training), 16, 0.01);
  }
  EXPECT_LT(bytes(256, true), 200e6);
  EXPECT_LT(bytes(256, false), 40e6);
}

// What a block adds for training is what it keeps for its backward: of float32 14·dim + 4·heads
// values, of which bf16 halves all but u, the statistics and those of the norms.
TEST(ActivationPlan, BlocksKeepWhatTheBackwardReads) {
  constexpr int64_t kRows = 8 * 256;
  const auto bytes = [](int64_t depth, DType precision) {
    ModelConfig c = default_model(256);
    c.depth = depth;
    return static_cast<int64_t>(plan_activation_bytes(
        c, {.batch = 8, .tokens = 256, .training = true, .precision = precision}));
  };
  const ModelConfig c = default_model(256);
  ASSERT_EQ(c.dim_ff, 4 * c.dim);
  const int64_t statistics = 4 * 4 * c.heads + 2 * 2 * 4;  // of attention, of two norms
  EXPECT_EQ(bytes(7, DType::kF32) - bytes(4, DType::kF32), 3 * kRows * (56 * c.dim + statistics));
  EXPECT_EQ(bytes(7, DType::kBF16) - bytes(4, DType::kBF16), 3 * kRows * (30 * c.dim + statistics));
}

// The fullest moment of inference is that of the outputs, which stay float32.
TEST(ActivationPlan, Bf16TakesLess) {
  const auto bytes = [](bool training, DType precision) {
    return static_cast<double>(plan_activation_bytes(
        default_model(256),
        {.batch = 8, .tokens = 256, .training = training, .precision = precision}));
  };
  EXPECT_LT(bytes(true, DType::kBF16), 0.61 * bytes(true, DType::kF32));
  EXPECT_LT(bytes(false, DType::kBF16), 0.8 * bytes(false, DType::kF32));
}

// The planner's blocks cover little more than what is alive at the fullest moment.
TEST(ActivationPlan, WastesLittle) {
  for (const char* placement : {"post", "pre"}) {
    for (const bool training : {true, false}) {
      ModelConfig c = default_model(256);
      c.norm_placement = placement;
      const ActivationPlan plan(c, {.batch = 8, .tokens = 256, .training = training});
      const auto most = static_cast<double>(plan.arena.lower_bound_bytes());
      EXPECT_LE(static_cast<double>(plan.arena.bytes()), 1.1 * most) << placement << training;
      EXPECT_GE(plan.arena.bytes(), plan.arena.lower_bound_bytes());
    }
  }
}

}  // namespace
}  // namespace stemfabric::test
