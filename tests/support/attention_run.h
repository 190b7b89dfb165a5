// Runs the attention op on a problem and compares it with the oracle.
#pragma once

#include <string>
#include <vector>

#include "tests/oracles/attention_oracle.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {

// All tensors of a forward and a backward pass.
class AttentionRun {
 public:
  explicit AttentionRun(const AttentionProblem& problem, const DropoutConfig& dropout = {},
                        const Layout& layout = {}, DType dtype = DType::kF32);

  void use_cudnn() { config_.cudnn = true; }  // in what follows, where it can

  void forward(const ExecutionContext& ctx);    // o, o2, u, stats
  void inference(const ExecutionContext& ctx);  // o alone
  void backward(const ExecutionContext& ctx);
  // Both, with several numbers of threads; the bits must agree.
  void run_repeatably();
  void run(const ExecutionContext& ctx = test_context()) {
    forward(ctx);
    backward(ctx);
  }

  GuardedTensor q, k, v, d_o, key_mask;
  GuardedTensor o, o2, u, stats, dq, dk, dv;

 private:
  AttentionForwardArgs forward_args(bool training);

  AttentionConfig config_;
  DropoutConfig dropout_;
  bool masked_;
};

// The naive computation in a dtype, and what is allowed beside its error.
AttentionResult<float> attention_naive(const AttentionProblem& problem, DType dtype);
struct AttentionFloors {
  Floor o, dq, dk, dv;
};
AttentionFloors attention_floors(const AttentionProblem& problem, DType dtype);

// Expects o, dq, dk and dv to be as good as the naive computation of the same problem in the run's
// own dtype.
void expect_attention(const AttentionRun& run, const AttentionProblem& problem,
                      const AttentionResult<double>& expected);

// A problem with normally distributed inputs; scores have about the given standard deviation.
AttentionProblem random_attention_problem(AttentionActivation activation, int64_t batch,
                                          int64_t tokens, int64_t heads, int64_t dim, uint64_t seed,
                                          double score_std = 2.0);
// The problem whose inputs are the nearest bfloat16 numbers.
AttentionProblem rounded_to_bf16(AttentionProblem problem);
// Pads the end of every batch entry: entry b keeps fewer keys the larger b is.
void pad_keys(AttentionProblem& problem);
// Masks keys at random.
void mask_keys_at_random(AttentionProblem& problem, uint64_t seed, double open);

}  // namespace stemfabric::test
