#include "trainer/model/step_work.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/stft/stft.h"
#include "runtime/core/check.h"
#include "trainer/model/parameter_table.h"

namespace stemfabric {
namespace {

constexpr double kFloat = 4;  // bytes
constexpr double kBf16 = 2;
constexpr double kInt16 = 2;
// Of attention, each of tokens · tokens · head dimension multiply-adds per head: what it needs, and
// the backward's as ours takes them.
constexpr double kLeastForwardProducts = 2;
constexpr double kLeastBackwardProducts = 5;
constexpr double kBackwardProducts = 7;

// The forward's as ours takes them.
double forward_products(const ModelConfig& model, bool bf16) {
  const bool softmax = model.attention.activation == "softmax";
  if (!bf16) {
    return 2 + (softmax ? 1 : 3);
  }
  if (softmax) {
    return 1 + 1;
  }
  const bool dropout = model.attention.dropout > 0;
  const auto padded = std::bit_ceil(static_cast<uint64_t>(model.dim / model.heads));
  const uint64_t columns = dropout ? 32 : 64;  // of the values, a warp's
  return static_cast<double>(std::max<uint64_t>(1, padded / columns)) + (dropout ? 5 : 4);
}

class Counter {
 public:
  Counter(const ModelConfig& model, const TrainingConfig& training, const StepSize& size)
      : model_(model),
        training_(training),
        size_(size),
        rows_(static_cast<double>(size.batch * size.tokens)),
        dim_(static_cast<double>(model.dim)),
        depth_(model.depth),
        value_(training.precision == "bf16" ? kBf16 : kFloat),
        parameters_(static_cast<double>(ParameterTable(model).block_elements())) {}

  std::vector<KernelWork> run() {
    fill();
    if (masks()) {
      transforms();
    }
    forward();
    masks() ? mask_loss() : stem_loss();
    backward();
    update();
    return std::move(work_);
  }

 private:
  // `calls` per micro-batch.
  void add(const std::string& kernel, int64_t calls, double flops, double bytes) {
    add(kernel, calls, flops, bytes, flops);
  }
  void add(const std::string& kernel, int64_t calls, double flops, double bytes, double our_flops) {
    if (calls > 0) {
      work_.push_back({kernel, calls * size_.accumulation, flops, bytes, our_flops});
    }
  }
  void once(const std::string& kernel, double flops, double bytes) {
    work_.push_back({kernel, 1, flops, bytes, flops});
  }

  // What a layer writes in the forward, or as the gradient of what it read.
  struct Result {
    double bytes;      // of a value
    double extra = 0;  // more values moved
  };
  // y = x · kernel; extra: bias rows, a second output.
  void product(const std::string& name, int64_t calls, double in, double out,
               const Result& result) {
    add(name, calls, 2 * rows_ * in * out,
        value_ * (rows_ * in + in * out) + result.bytes * (rows_ * out + out + result.extra));
  }
  // dx = dy · kernelᵀ; extra: what the fused activation's derivative reads, or dx read to be added
  // to.
  void input_gradient(const std::string& name, int64_t calls, double in, double out,
                      const Result& result) {
    add(name + ", input gradient", calls, 2 * rows_ * in * out,
        value_ * (rows_ * out + in * out) + result.bytes * (rows_ * in + result.extra));
  }
  // dkernel += xᵀ · dy, dbias.
  void kernel_gradient(const std::string& name, int64_t calls, double in, double out) {
    add(name + ", kernel gradient", calls, 2 * rows_ * in * out + rows_ * out,
        value_ * rows_ * (in + out) + kFloat * (2 * in * out + 2 * out));
  }
  // A float32 tensor copied to bf16 for products to read.
  void cast(const std::string& what, int64_t calls, double values) {
    add(what + " to bf16", bf16() ? calls : 0, 0, (kFloat + kBf16) * values);
  }

  double attention_pairs() const {
    return rows_ * static_cast<double>(size_.tokens) * dim_;  // Σ over heads of T · T · D
  }
  // Bytes of u and the statistics.
  double saved_floats() const {
    return kFloat * rows_ * (dim_ + 4 * static_cast<double>(model_.heads));
  }
  bool bf16() const { return value_ == kBf16; }
  bool rotary() const { return model_.positions == "rotary"; }
  bool learned() const { return model_.positions == "learned"; }
  bool post_norm() const { return model_.norm_placement != "pre"; }
  int64_t norms() const { return 2 * depth_ + (post_norm() ? 0 : 1); }
  bool dropout() const { return model_.attn_dropout > 0 || model_.ff_dropout > 0; }

  // Of a model of masks.
  bool masks() const { return model_.mask != "none"; }
  double channels() const { return static_cast<double>(model_.audio->num_channels); }
  // Samples, and floats of the spectra, of one signal of every sample in the batch.
  double signal() const {
    return channels() *
           static_cast<double>(size_.batch * (size_.tokens - 1) * model_.audio->hop_length);
  }
  double spectra() const {
    return channels() * rows_ * 2 * static_cast<double>(stft_bins(model_.audio->n_fft));
  }
  // A real transform of n samples as 5/2 n log2 n.
  double transform() const {
    const double n = static_cast<double>(model_.audio->n_fft);
    return channels() * rows_ * 2.5 * n * std::log2(n);
  }

  void transforms() {
    const double features = rows_ * static_cast<double>(model_.input_dim);
    // Six stems from 16-bit files, without a remainder.
    add("mixing", 1, 2 * kStemCount * signal(),
        (kInt16 * kStemCount + kFloat * (kStemCount + 1)) * signal());
    add("stft and features, mixture", 1, transform(), kFloat * (signal() + spectra() + features));
    add("stft, stems", 1, kStemCount * transform(), kFloat * kStemCount * (signal() + spectra()));
  }

  // Per bin and channel: the mask from its bands, the estimate, both compressed magnitudes (p =
  // 1/2), and the gradient back to the bands. A root or a division is one operation.
  void mask_loss() {
    const double outputs = kStemCount * rows_ * static_cast<double>(model_.output_dim);
    add("mask count", 1, 0, kStemCount * static_cast<double>(size_.batch));
    const double operations = model_.mask == "complex" ? 60 : 45;
    add("mask loss", 1, operations * kStemCount * spectra() / 2,
        kFloat * ((kStemCount + 1) * spectra() + outputs) + value_ * outputs);
  }

  void fill() { once("fill gradients", 0, kFloat * parameters_); }

  void forward() {
    const double in = static_cast<double>(model_.input_dim);
    const double ff = static_cast<double>(model_.dim_ff);
    const double out = static_cast<double>(model_.output_dim);
    const double tokens = static_cast<double>(size_.tokens);
    cast("weights", 1, parameters_);
    add("standardize", 1, 2 * rows_ * in, (kFloat + value_) * rows_ * in + kFloat * 2 * in);
    product("input", 1, in, dim_, {value_, learned() ? tokens * dim_ : 0});
    product("q, k, v", depth_, dim_, 3 * dim_, {value_});
    add("rotary", rotary() ? 2 * depth_ : 0, 3 * rows_ * dim_, value_ * 2 * rows_ * dim_);
    add("attention", depth_, 2 * kLeastForwardProducts * attention_pairs(),
        value_ * 5 * rows_ * dim_ + saved_floats(),  // q, k, v; o, o2
        2 * forward_products(model_, bf16()) * attention_pairs());
    product("attention output", depth_, dim_, dim_, {value_});
    const double relu_bits = rows_ * ff / 8 / value_;  // in values
    product("feed-forward 1", depth_, dim_, ff, {value_, relu_bits});
    product("feed-forward 2", depth_, ff, dim_, {value_});
    add("residual, dropout, norm", norms(), 10 * rows_ * dim_, value_ * (4 * rows_ * dim_));
    product("heads hidden", 1, dim_, kStemCount * dim_, {value_, rows_ * kStemCount * dim_});
    product("heads output", kStemCount, dim_, out, {kFloat});
  }

  void stem_loss() {
    const double outputs = kStemCount * rows_ * static_cast<double>(model_.output_dim);
    add("stem count", 1, 0, outputs);
    add("stem loss", 1, 5 * outputs, (kFloat * 2 + value_ + 1) * outputs);
  }

  void backward() {
    const double in = static_cast<double>(model_.input_dim);
    const double ff = static_cast<double>(model_.dim_ff);
    const double out = static_cast<double>(model_.output_dim);
    const double stream = rows_ * dim_;
    const double added = post_norm() ? stream : 0;  // dx += into the residual's gradient
    kernel_gradient("heads output", kStemCount, dim_, out);
    input_gradient("heads output", kStemCount, dim_, out, {value_, stream});
    kernel_gradient("heads hidden", 1, dim_, kStemCount * dim_);
    input_gradient("heads hidden", 1, dim_, kStemCount * dim_, {value_});
    add("residual, dropout, norm, gradient", norms(), 12 * stream,
        value_ * (3 + (dropout() ? 1 : 0)) * stream);
    kernel_gradient("feed-forward 2", depth_, ff, dim_);
    input_gradient("feed-forward 2", depth_, ff, dim_, {value_, rows_ * ff / 8 / value_});
    kernel_gradient("feed-forward 1", depth_, dim_, ff);
    input_gradient("feed-forward 1", depth_, dim_, ff, {value_, added});
    kernel_gradient("attention output", depth_, dim_, dim_);
    input_gradient("attention output", depth_, dim_, dim_, {value_});
    add("attention, gradient", depth_, 2 * kLeastBackwardProducts * attention_pairs(),
        value_ * 8 * stream + saved_floats(),  // q, k, v, o2, do; dq, dk, dv
        2 * kBackwardProducts * attention_pairs());
    add("rotary, gradient", rotary() ? 2 * depth_ : 0, 3 * stream, value_ * 2 * stream);
    kernel_gradient("q, k, v", depth_, dim_, 3 * dim_);
    input_gradient("q, k, v", depth_, dim_, 3 * dim_, {value_, added});
    kernel_gradient("input", 1, in, dim_);
    const double positions = static_cast<double>(size_.tokens) * dim_;
    add("positions, gradient", learned() ? 1 : 0, stream, value_ * stream + kFloat * 2 * positions);
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
  double value_;  // bytes of an activation
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
