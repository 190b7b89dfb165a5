#include "trainer/model/step_work.h"

#include "runtime/core/check.h"
#include "trainer/model/parameter_table.h"

namespace stemfabric {
namespace {

constexpr double kFloat = 4;  // bytes
constexpr double kScoreProducts = 2;
constexpr double kForwardValueProducts = 3;
constexpr double kBackwardProducts = 7;

class Counter {
 public:
  Counter(const ModelConfig& model, const TrainingConfig& training, const StepSize& size)
      : model_(model),
        training_(training),
        size_(size),
        rows_(static_cast<double>(size.batch * size.tokens)),
        dim_(static_cast<double>(model.dim)),
        depth_(model.depth),
        parameters_(static_cast<double>(ParameterTable(model).block_elements())) {}

  std::vector<KernelWork> run() {
    fill();
    forward();
    loss();
    backward();
    update();
    return std::move(work_);
  }

 private:
  // `calls` per micro-batch.
  void add(const std::string& kernel, int64_t calls, double flops, double bytes) {
    if (calls > 0) {
      work_.push_back({kernel, calls * size_.accumulation, flops, bytes});
    }
  }
  void once(const std::string& kernel, double flops, double bytes) {
    work_.push_back({kernel, 1, flops, bytes});
  }

  // y = x · kernel: `extra` more values moved (bias rows, a second output).
  void product(const std::string& name, int64_t calls, double in, double out, double extra = 0) {
    add(name, calls, 2 * rows_ * in * out, kFloat * (rows_ * (in + out) + in * out + out + extra));
  }
  // dx = dy · kernelᵀ; `extra`: what the fused activation's derivative reads, or dx read to be
  // added to.
  void input_gradient(const std::string& name, int64_t calls, double in, double out,
                      double extra = 0) {
    add(name + ", input gradient", calls, 2 * rows_ * in * out,
        kFloat * (rows_ * (in + out) + in * out + extra));
  }
  // dkernel += xᵀ · dy, dbias.
  void kernel_gradient(const std::string& name, int64_t calls, double in, double out) {
    add(name + ", kernel gradient", calls, 2 * rows_ * in * out + rows_ * out,
        kFloat * (rows_ * (in + out) + 2 * in * out + 2 * out));
  }

  double attention_pairs() const {
    return rows_ * static_cast<double>(size_.tokens) * dim_;  // Σ over heads of T · T · D
  }
  double statistics() const { return 4 * rows_ * static_cast<double>(model_.heads); }
  bool rotary() const { return model_.positions == "rotary"; }
  bool learned() const { return model_.positions == "learned"; }
  bool post_norm() const { return model_.norm_placement != "pre"; }
  int64_t norms() const { return 2 * depth_ + (post_norm() ? 0 : 1); }
  bool dropout() const { return model_.attn_dropout > 0 || model_.ff_dropout > 0; }

  void fill() { once("fill gradients", 0, kFloat * parameters_); }

  void forward() {
    const double in = static_cast<double>(model_.input_dim);
    const double ff = static_cast<double>(model_.dim_ff);
    const double out = static_cast<double>(model_.output_dim);
    const double tokens = static_cast<double>(size_.tokens);
    add("standardize", 1, 2 * rows_ * in, kFloat * (2 * rows_ * in + 2 * in));
    product("input", 1, in, dim_, learned() ? tokens * dim_ : 0);
    product("q, k, v", depth_, dim_, 3 * dim_);
    add("rotary", rotary() ? 2 * depth_ : 0, 3 * rows_ * dim_, kFloat * 2 * rows_ * dim_);
    add("attention", depth_, 2 * (kScoreProducts + kForwardValueProducts) * attention_pairs(),
        kFloat * (6 * rows_ * dim_ + statistics()));  // q, k, v; o, o2, u
    product("attention output", depth_, dim_, dim_);
    product("feed-forward 1", depth_, dim_, ff);
    product("feed-forward 2", depth_, ff, dim_);
    add("residual, dropout, norm", norms(), 10 * rows_ * dim_, kFloat * (4 * rows_ * dim_));
    product("heads hidden", 1, dim_, kStemCount * dim_, rows_ * kStemCount * dim_);
    product("heads output", kStemCount, dim_, out);
  }

  void loss() {
    const double outputs = kStemCount * rows_ * static_cast<double>(model_.output_dim);
    add("stem count", 1, 0, outputs);
    add("stem loss", 1, 5 * outputs, kFloat * 3 * outputs + outputs);
  }

  void backward() {
    const double in = static_cast<double>(model_.input_dim);
    const double ff = static_cast<double>(model_.dim_ff);
    const double out = static_cast<double>(model_.output_dim);
    const double stream = rows_ * dim_;
    const double added = post_norm() ? stream : 0;  // dx += into the residual's gradient
    kernel_gradient("heads output", kStemCount, dim_, out);
    input_gradient("heads output", kStemCount, dim_, out, stream);
    kernel_gradient("heads hidden", 1, dim_, kStemCount * dim_);
    input_gradient("heads hidden", 1, dim_, kStemCount * dim_);
    add("residual, dropout, norm, gradient", norms(), 12 * stream,
        kFloat * (3 + (dropout() ? 1 : 0)) * stream);
    kernel_gradient("feed-forward 2", depth_, ff, dim_);
    input_gradient("feed-forward 2", depth_, ff, dim_, rows_ * ff);
    kernel_gradient("feed-forward 1", depth_, dim_, ff);
    input_gradient("feed-forward 1", depth_, dim_, ff, added);
    kernel_gradient("attention output", depth_, dim_, dim_);
    input_gradient("attention output", depth_, dim_, dim_);
    add("attention, gradient", depth_, 2 * kBackwardProducts * attention_pairs(),
        kFloat * (9 * stream + statistics()));  // q, k, v, o2, u, do; dq, dk, dv
    add("rotary, gradient", rotary() ? 2 * depth_ : 0, 3 * stream, kFloat * 2 * stream);
    kernel_gradient("q, k, v", depth_, dim_, 3 * dim_);
    input_gradient("q, k, v", depth_, dim_, 3 * dim_, added);
    kernel_gradient("input", 1, in, dim_);
    const double positions = static_cast<double>(size_.tokens) * dim_;
    add("positions, gradient", learned() ? 1 : 0, stream, kFloat * (stream + 2 * positions));
  }

  void update() {
    once("gradient norm", 2 * parameters_, kFloat * parameters_);
    once("adam", 12 * parameters_, kFloat * 7 * parameters_);
    if (training_.ema_momentum > 0) {
      once("moving average", 3 * parameters_, kFloat * 3 * parameters_);
    }
  }

  const ModelConfig& model_;
  const TrainingConfig& training_;
  StepSize size_;
  double rows_, dim_;
  int64_t depth_;
  double parameters_;
  std::vector<KernelWork> work_;
};

}  // namespace

std::vector<KernelWork> training_step_work(const ModelConfig& model, const TrainingConfig& training,
                                           const StepSize& size) {
  SF_CHECK(size.batch >= 1 && size.tokens >= 1 && size.accumulation >= 1,
           "a step of {} micro-batches of {} samples of {} tokens", size.accumulation, size.batch,
           size.tokens);
  return Counter(model, training, size).run();
}

}  // namespace stemfabric
