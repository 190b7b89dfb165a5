// Softmax attention in bf16 by cuDNN: its real calls, on a stand-in for the library that computes
// the graph it is given (host_cudnn.cpp), against the same oracle as our kernels.
#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>
#include <string>

#include "kernels/attention/attention_cudnn.h"
#include "runtime/device/cudnn_graph.h"
#include "tests/cuda_runtime/host_cudnn.h"
#include "tests/oracles/attention_cases.h"
#include "tests/support/attention_run.h"
#include "tests/support/bf16.h"
#include "tests/support/simd_levels.h"
#include "tests/trainer/model_step.h"

namespace stemfabric::test {
namespace {

AttentionProblem softmax_problem(int64_t batch, int64_t tokens, int64_t heads, int64_t dim) {
  return rounded_to_bf16(random_attention_problem(AttentionActivation::kSoftmax, batch, tokens,
                                                  heads, dim, /*seed=*/5));
}

// Executions of plans while something runs.
template <typename Do>
int64_t executions(Do&& act) {
  const int64_t before = host_cudnn().executions;
  act();
  return host_cudnn().executions - before;
}

int64_t executions_of_run(AttentionRun& run) {
  return executions([&] { run.run(); });
}

struct Case {
  std::string name;
  int64_t batch, tokens, heads, dim;
  MaskKind mask = MaskKind::kNone;
  bool strided = false;
};
[[maybe_unused]] void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class AttentionCudnn : public testing::TestWithParam<Case> {
 protected:
  AttentionProblem problem() const {
    const Case& c = GetParam();
    AttentionProblem p = softmax_problem(c.batch, c.tokens, c.heads, c.dim);
    if (c.mask == MaskKind::kPadded) {
      pad_keys(p);
    } else if (c.mask == MaskKind::kScattered) {
      mask_keys_at_random(p, 6, 0.6);
    }
    return p;
  }
  // Gaps as wide as rows, heads outermost.
  Layout layout() const {
    return GetParam().strided ? Layout{.order = {2, 0, 1, 3}, .row_gap = GetParam().dim} : Layout{};
  }
  AlignedTensors aligned_;
};
INSTANTIATE_TEST_SUITE_P(
    Cases, AttentionCudnn,
    testing::Values(Case{"t2_d8", 3, 2, 2, 8}, Case{"t33_d16", 2, 33, 3, 16},
                    Case{"t64_d32", 1, 64, 2, 32},
                    Case{"t25_d32_padded", 3, 25, 2, 32, MaskKind::kPadded},
                    Case{"t31_d8_scattered", 2, 31, 2, 8, MaskKind::kScattered},
                    Case{"t19_d16_strided", 2, 19, 3, 16, MaskKind::kPadded, true},
                    Case{"t9_d128", 1, 9, 1, 128}),
    [](const auto& test) { return test.param.name; });

TEST_P(AttentionCudnn, FollowsTheFormula) {
  const AttentionProblem p = problem();
  AttentionRun run(p, {}, layout(), DType::kBF16);
  run.use_cudnn();
  EXPECT_EQ(executions_of_run(run), 2);
  expect_attention(run, p, attention_oracle<double>(p));
}

TEST_P(AttentionCudnn, InferenceGivesTheBitsOfTraining) {
  AttentionRun run(problem(), {}, layout(), DType::kBF16);
  run.use_cudnn();
  run.forward(test_context());
  const std::vector<double> training = run.o.values();
  EXPECT_EQ(executions([&] { run.inference(test_context(2)); }), 1);
  EXPECT_EQ(run.o.values(), training);
}

TEST(AttentionCudnnRules, TellsTheVersionThatHasComputed) {
  const AlignedTensors aligned;
  AttentionRun run(softmax_problem(1, 8, 1, 8), {}, {}, DType::kBF16);
  run.use_cudnn();
  EXPECT_EQ(executions_of_run(run), 2);
  EXPECT_EQ(cuda::cudnn_attention_version(), cuda::cudnn_version());
}

TEST(AttentionCudnnRules, RowsWithoutOpenKeysAreZero) {
  const AlignedTensors aligned;
  AttentionProblem p = softmax_problem(3, 20, 2, 16);
  p.key_mask.assign(60, 1);
  std::fill_n(p.key_mask.begin() + 20, 20, 0);
  AttentionRun run(p, {}, {}, DType::kBF16);
  run.use_cudnn();
  EXPECT_EQ(executions_of_run(run), 2);
  expect_attention(run, p, attention_oracle<double>(p));
  for (const GuardedTensor* x : {&run.o, &run.dq, &run.dk, &run.dv}) {
    for (int64_t i = p.offset(1, 0, 0); i < p.offset(2, 0, 0); ++i) {
      ASSERT_EQ(x->get(i), 0) << i;
    }
  }
}

// Of a masked key nothing is seen but that it is finite.
TEST(AttentionCudnnRules, MaskedKeysDoNotMatter) {
  const AlignedTensors aligned;
  AttentionProblem p = softmax_problem(1, 12, 1, 8);
  p.key_mask.assign(12, 1);
  p.key_mask[3] = 0;
  AttentionRun run(p, {}, {}, DType::kBF16);
  run.use_cudnn();
  run.run();
  for (int64_t d = 0; d < 8; ++d) {
    p.k[static_cast<std::size_t>(p.offset(0, 3, 0) + d)] = 1e4;
    p.v[static_cast<std::size_t>(p.offset(0, 3, 0) + d)] = -1e4;
  }
  AttentionRun other(rounded_to_bf16(p), {}, {}, DType::kBF16);
  other.use_cudnn();
  EXPECT_EQ(executions_of_run(other), 2);
  EXPECT_EQ(other.o.values(), run.o.values());
  EXPECT_EQ(other.dv.values(), run.dv.values());
  for (int64_t d = 0; d < 8; ++d) {
    EXPECT_EQ(other.dk.get(p.offset(0, 3, 0) + d), 0);
    EXPECT_EQ(other.dv.get(p.offset(0, 3, 0) + d), 0);
  }
}

// A plan is made once for each direction and shape.
TEST(AttentionCudnnRules, PlansAreKept) {
  const AlignedTensors aligned;
  const AttentionProblem p = softmax_problem(2, 11, 1, 8);
  const auto plans = [&] {
    const int64_t before = host_cudnn().plans;
    AttentionRun run(p, {}, {}, DType::kBF16);
    run.use_cudnn();
    run.run();
    return host_cudnn().plans - before;
  };
  EXPECT_EQ(plans(), 2);
  EXPECT_EQ(plans(), 0);
}

// Whatever it does not take, our kernels compute.
class AttentionCudnnRefusals : public testing::Test {
 protected:
  static void expect_ours(const AttentionProblem& p, const DropoutConfig& dropout = {},
                          const Layout& layout = {}, DType dtype = DType::kBF16,
                          bool wanted = true) {
    AttentionRun run(p, dropout, layout, dtype);
    if (wanted) {
      run.use_cudnn();
    }
    EXPECT_EQ(executions_of_run(run), 0);
    expect_attention(run, p, attention_oracle<double>(p));
  }
  AlignedTensors aligned_;
};

TEST_F(AttentionCudnnRefusals, WhatNobodyAskedFor) {
  expect_ours(softmax_problem(1, 20, 1, 16), {}, {}, DType::kBF16, false);
}
TEST_F(AttentionCudnnRefusals, OtherActivations) {
  expect_ours(rounded_to_bf16(
      random_attention_problem(AttentionActivation::kSuperposition, 1, 20, 1, 16, /*seed=*/5)));
}
TEST_F(AttentionCudnnRefusals, Float32) {
  expect_ours(softmax_problem(1, 20, 1, 16), {}, {}, DType::kF32);
}
TEST_F(AttentionCudnnRefusals, Dropout) {
  AttentionProblem p = softmax_problem(1, 20, 1, 16);
  const DropoutConfig dropout{0.3f, philox_launch_key(7, 3, 1, 1), 40};
  p.keep = attention_keep_oracle(dropout, 1, 1, 20);
  p.keep_scale = 1.0 / (1.0 - dropout_threshold(0.3f) / 65536.0);
  expect_ours(p, dropout);
}
TEST_F(AttentionCudnnRefusals, OneToken) { expect_ours(softmax_problem(2, 1, 1, 16)); }
TEST_F(AttentionCudnnRefusals, RowsThatAreNotMultiplesOf16Bytes) {
  expect_ours(softmax_problem(1, 20, 1, 12));
  expect_ours(softmax_problem(1, 20, 1, 16), {}, {.row_gap = 3});
  set_first_element(1);
  expect_ours(softmax_problem(1, 20, 1, 16));
}
TEST_F(AttentionCudnnRefusals, SizesThatTheLibraryHasNoEngineFor) {
  expect_ours(softmax_problem(1, 20, 1, HostCudnn::kRefusedDim));
}
TEST_F(AttentionCudnnRefusals, PlansThatWantTooMuchScratchMemory) {
  expect_ours(softmax_problem(1, 20, 1, HostCudnn::kGreedyDim));
}

TEST_F(AttentionCudnnRefusals, WhatAVersionComputesWrongly) {
  struct Restore {
    ~Restore() { host_cudnn().version = HostCudnn().version; }
  } const restore;
  host_cudnn().version = 91001;
  expect_ours(softmax_problem(1, 128, 1, 16));
  host_cudnn().version = 91500;
  expect_ours(softmax_problem(1, 100, 1, 16));
  AttentionRun whole(softmax_problem(1, 128, 1, 16), {}, {}, DType::kBF16);
  whole.use_cudnn();
  EXPECT_EQ(executions_of_run(whole), 2);
  AttentionRun inference(softmax_problem(1, 100, 1, 16), {}, {}, DType::kBF16);
  inference.use_cudnn();
  EXPECT_EQ(executions([&] { inference.inference(test_context()); }), 1);
}

// In a process of its own: the library starts once in a process.
TEST(AttentionCudnnDeathTest, ALibraryThatDoesNotStartIsLeftAlone) {
  const auto try_it = [] {
    const AlignedTensors aligned;
    host_cudnn().starts = false;
    const AttentionProblem p = softmax_problem(1, 20, 1, 16);
    AttentionRun run(p, {}, {}, DType::kBF16);
    run.use_cudnn();
    EXPECT_EQ(executions_of_run(run), 0);
    expect_attention(run, p, attention_oracle<double>(p));
    std::exit(testing::Test::HasFailure() ? 1 : 0);
  };
  EXPECT_EXIT(try_it(), testing::ExitedWithCode(0), "");
}

// The forward pass is the library's by then: ours cannot go on from what it saved.
TEST(AttentionCudnnRules, GradientsThatTheLibraryDoesNotTakeAreAnError) {
  const AlignedTensors aligned;
  const AttentionProblem p = softmax_problem(1, 10, 1, 16);
  AttentionRun run(p, {}, {}, DType::kBF16);
  run.use_cudnn();
  run.forward(test_context());
  AttentionRun other(p, {}, {.row_gap = 8}, DType::kBF16);
  AttentionBackwardArgs args{.config = {.activation = p.activation, .cudnn = true},
                             .q = run.q.view(),
                             .k = run.k.view(),
                             .v = run.v.view(),
                             .o = run.o.view(),
                             .o2 = run.o2.view(),
                             .u = run.u.view(),
                             .stats = run.stats.view(),
                             .d_o = run.d_o.view(),
                             .dq = other.dq.view(),
                             .dk = run.dk.view(),
                             .dv = run.dv.view()};
  try {
    attention_backward(test_context(), args);
    FAIL() << "no error";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("takes no gradients with these strides"),
              std::string::npos)
        << error.what();
  }
}

// A whole model: all of its attention is the library's if training.cudnn says so, and its gradients
// are those of our kernels within what bf16 rounds.
TEST(AttentionCudnnModel, TrainsByIt) {
  ModelConfig config = tiny_config();
  config.dim = 32;
  config.heads = 2;
  config.attention.activation = "softmax";
  const auto gradients = [&](bool cudnn, int64_t expected) {
    Separator model(
        test_context(), config,
        {.batch = 3, .tokens = 7, .training = true, .precision = DType::kBF16, .cudnn = cudnn});
    const TestBatch batch(config, 3, 7, 21);
    randomize(model, 4);
    EXPECT_EQ(executions([&] { forward_backward(test_context(), model, batch, {}); }), expected);
    return widen(block_values(model.gradients()));
  };
  const auto ours = gradients(false, 0);
  const auto library = gradients(true, 2 * config.depth);
  EXPECT_LT(rms_distance(library, ours), bf16_gradient_bound(config.depth) * rms(ours));
}

}  // namespace
}  // namespace stemfabric::test
