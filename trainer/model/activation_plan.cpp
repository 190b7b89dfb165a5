#include "trainer/model/activation_plan.h"

#include <string>

#include "kernels/linear/linear.h"
#include "trainer/stems.h"

namespace stemfabric {

namespace {

// The steps of one forward and backward pass, numbered in the order in which they run. Branch 2i is
// the attention of block i, branch 2i + 1 its feed-forward layer.
struct Timeline {
  int branches;

  static constexpr int kStandardize = 0;
  static constexpr int kEmbed = 1;
  static constexpr int kFirstNorm = 2;  // pre-norm only
  // Within a branch, forward: first product, attention function, second product, norm;
  // backward: norm, second product, attention function, first product.
  static constexpr int kStepsPerBranch = 4;

  int forward(int branch) const { return kFirstNorm + 1 + kStepsPerBranch * branch; }
  int first_product(int branch) const { return forward(branch); }
  int core(int branch) const { return forward(branch) + 1; }
  int second_product(int branch) const { return forward(branch) + 2; }
  int norm(int branch) const { return forward(branch) + 3; }  // branch -1: the first norm

  int head_hidden() const { return forward(branches); }
  int head_output() const { return head_hidden() + 1; }
  int loss() const { return head_hidden() + 2; }
  int head_output_backward() const { return head_hidden() + 3; }
  int head_hidden_backward() const { return head_hidden() + 4; }

  int backward(int branch) const {
    return head_hidden_backward() + 1 + kStepsPerBranch * (branches - 1 - branch);
  }
  int norm_backward(int branch) const { return backward(branch); }  // branch -1: the first norm
  int second_product_backward(int branch) const { return backward(branch) + 1; }
  int core_backward(int branch) const { return backward(branch) + 2; }
  int first_product_backward(int branch) const { return backward(branch) + 3; }
  int embed_backward() const { return backward(-1) + 1; }
};

class Planner {
 public:
  Planner(ActivationPlan& plan, const ModelConfig& config, const ActivationLimits& limits)
      : plan_(plan),
        config_(config),
        training_(limits.training),
        precision_(limits.precision),
        relu_masks_(limits.relu_masks),
        pre_norm_(config.norm_placement == "pre"),
        rows_(limits.batch * limits.tokens),
        time_{static_cast<int>(2 * config.depth)} {
    SF_CHECK(limits.batch > 0 && limits.tokens > 0, "activations of {} samples of {} tokens",
             limits.batch, limits.tokens);
  }

  void run() {
    const int end = training_ ? time_.embed_backward() : time_.head_output();
    plan_.mask = plan_.arena.add("mask", {rows_}, DType::kU8, Timeline::kStandardize, end);
    plan_.input = rows("input", config_.input_dim, Timeline::kStandardize,
                       until(Timeline::kEmbed, time_.embed_backward()));
    plan_.embed = pre_norm_ ? rows("embed", config_.dim, Timeline::kEmbed, Timeline::kFirstNorm)
                            : normed("embed", -1, Timeline::kEmbed);
    if (pre_norm_) {
      norm(-1);
    }
    for (int i = 0; i < config_.depth; ++i) {
      attention(2 * i);
      norm(2 * i);
      feed_forward(2 * i + 1);
      norm(2 * i + 1);
    }
    heads();
    if (training_) {
      plan_.stream_gradient = rows("stream gradient", config_.dim, time_.head_hidden_backward(),
                                   time_.embed_backward());
      if (pre_norm_) {
        plan_.normed_gradient = rows("normed gradient", config_.dim, time_.head_hidden_backward(),
                                     time_.norm_backward(-1));
      }
    }
    plan_.arena.finish();
  }

 private:
  int until(int inference, int training) const { return training_ ? training : inference; }

  ArenaPlan::Id rows(const std::string& name, int64_t columns, int first, int last) {
    return plan_.arena.add(name, {rows_, columns}, precision_, first, last);
  }
  ArenaPlan::Id training_rows(const std::string& name, int64_t columns, int first, int last) {
    return training_ ? rows(name, columns, first, last) : -1;
  }
  ArenaPlan::Id float_rows(const std::string& name, int64_t columns, int first, int last) {
    return plan_.arena.add(name, {rows_, columns}, DType::kF32, first, last);
  }
  ArenaPlan::Id training_float_rows(const std::string& name, int64_t columns, int first, int last) {
    return training_ ? float_rows(name, columns, first, last) : -1;
  }
  // The input of the branch (or of the heads) that follows `branch`; in post-norm it is the
  // residual as well.
  ArenaPlan::Id normed(const std::string& name, int branch, int written) {
    const int next = branch + 1;
    if (next == time_.branches) {
      return rows(name, config_.dim, written,
                  until(time_.head_hidden(), time_.head_hidden_backward()));
    }
    const int forward_use = pre_norm_ ? time_.first_product(next) : time_.norm(next);
    return rows(name, config_.dim, written, until(forward_use, time_.first_product_backward(next)));
  }

  void norm(int branch) {
    const std::string name = fmt::format("norm {}", branch + 1);
    const int written = time_.norm(branch);
    const int backward = time_.norm_backward(branch);
    const bool residual_later = pre_norm_ && branch + 1 < time_.branches;
    NormActivations a;
    a.sum = rows(name + " sum", config_.dim, written,
                 until(residual_later ? time_.norm(branch + 1) : written, backward));
    a.y = normed(name + " y", branch, written);
    a.mean = training_float_rows(name + " mean", 1, written, backward);
    a.rstd = training_float_rows(name + " rstd", 1, written, backward);
    plan_.norms.push_back(a);
  }

  void attention(int b) {
    const std::string name = fmt::format("block {} attention ", b / 2);
    const int64_t dim = config_.dim;
    const int backward = time_.core_backward(b);
    AttentionActivations a;
    a.qkv = rows(name + "qkv", 3 * dim, time_.first_product(b), until(time_.core(b), backward));
    a.context =
        rows(name + "context", dim, time_.core(b), until(time_.second_product(b), backward));
    a.saved_o2 = training_rows(name + "o2", dim, time_.core(b), backward);
    a.saved_u = training_float_rows(name + "u", dim, time_.core(b), backward);
    a.saved_stats = training_float_rows(name + "stats", 4 * config_.heads, time_.core(b), backward);
    a.output = rows(name + "output", dim, time_.second_product(b), time_.norm(b));
    if (config_.attn_dropout > 0) {
      a.output_gradient = training_rows(name + "output gradient", dim, time_.norm_backward(b),
                                        time_.second_product_backward(b));
    }
    a.context_gradient =
        training_rows(name + "context gradient", dim, time_.second_product_backward(b), backward);
    a.qkv_gradient =
        training_rows(name + "qkv gradient", 3 * dim, backward, time_.first_product_backward(b));
    plan_.attention.push_back(a);
  }

  void feed_forward(int b) {
    const std::string name = fmt::format("block {} feed-forward ", b / 2);
    FeedForwardActivations a;
    a.hidden = rows(name + "hidden", config_.dim_ff, time_.first_product(b),
                    until(time_.second_product(b), time_.second_product_backward(b)));
    if (training_ && relu_masks_) {
      a.relu_mask =
          plan_.arena.add(name + "ReLU mask", {rows_, relu_mask_bytes(config_.dim_ff)}, DType::kU8,
                          time_.first_product(b), time_.second_product_backward(b));
    }
    a.output = rows(name + "output", config_.dim, time_.second_product(b), time_.norm(b));
    if (config_.ff_dropout > 0) {
      a.output_gradient = training_rows(name + "output gradient", config_.dim,
                                        time_.norm_backward(b), time_.second_product_backward(b));
    }
    a.hidden_gradient =
        training_rows(name + "hidden gradient", config_.dim_ff, time_.second_product_backward(b),
                      time_.first_product_backward(b));
    plan_.feed_forward.push_back(a);
  }

  void heads() {
    const int64_t hidden = kStemCount * config_.dim;
    const int64_t outputs = kStemCount * config_.output_dim;
    HeadActivations a;
    a.hidden = rows("heads hidden", hidden, time_.head_hidden(),
                    until(time_.head_output(), time_.head_output_backward()));
    a.pre_activation = training_rows("heads pre-activation", hidden, time_.head_hidden(),
                                     time_.head_output_backward());
    a.output = float_rows("heads output", outputs, time_.head_output(), time_.loss());
    a.output_gradient =
        training_rows("heads output gradient", outputs, time_.loss(), time_.head_output_backward());
    a.hidden_gradient = training_rows("heads hidden gradient", hidden, time_.head_output_backward(),
                                      time_.head_hidden_backward());
    plan_.heads = a;
  }

  ActivationPlan& plan_;
  const ModelConfig& config_;
  bool training_;
  DType precision_;
  bool relu_masks_;
  bool pre_norm_;
  int64_t rows_;
  Timeline time_;
};

}  // namespace

DType precision_dtype(const std::string& precision) {
  if (precision != "fp32" && precision != "bf16") {
    throw ConfigError("training.precision: '{}' is neither 'fp32' nor 'bf16'", precision);
  }
  return precision == "bf16" ? DType::kBF16 : DType::kF32;
}

ActivationPlan::ActivationPlan(const ModelConfig& config, const ActivationLimits& limits) {
  Planner(*this, config, limits).run();
}

}  // namespace stemfabric
