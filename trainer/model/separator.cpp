#include "trainer/model/separator.h"

#include <algorithm>
#include <optional>

#include "kernels/cast/cast.h"
#include "kernels/linear/linear.h"
#include "kernels/reduction/reduction.h"
#include "kernels/standardize/standardize.h"
#include "runtime/memory/host_access.h"
#include "runtime/profile/trace.h"
#include "trainer/model/encoder_block.h"
#include "trainer/model/stem_heads.h"

namespace stemfabric {

struct Separator::State {
  State(const ExecutionContext& context, const ModelConfig& model, const Limits& sizes);

  void build_layers();
  bool pre_norm() const { return config.norm_placement == "pre"; }
  int64_t branches() const { return 2 * config.depth; }
  // The norm after branch j; pre-norm has one more, before the first branch (j = -1).
  const ResidualNorm& norm_after(int64_t j) const {
    return norms[static_cast<std::size_t>(pre_norm() ? j + 1 : j)];
  }
  const AttentionBranch& attention_of(int64_t j) const {
    return attention[static_cast<std::size_t>(j / 2)];
  }
  const FeedForwardBranch& feed_forward_of(int64_t j) const {
    return feed_forward[static_cast<std::size_t>(j / 2)];
  }
  TensorView embed(const ModelPass& p) const { return p.matrix(plan.embed, config.dim); }
  // What branch j reads (j = branches(): the heads).
  TensorView branch_input(const ModelPass& p, int64_t j) const {
    return j == 0 && !pre_norm() ? embed(p) : norm_after(j - 1).y(p);
  }
  template <typename T>
  TensorView position_rows(T* block, int64_t tokens) const {
    return ParameterTable::view(table.find("pos"), block).slice(0, 0, tokens);
  }

  void check_inputs(const ConstTensorView& inputs, const ConstTensorView& mask) const;
  void embed_forward(const ModelPass& p, const ConstTensorView& inputs);
  void embed_backward(const ModelPass& p, const ConstTensorView& d_embed);
  TensorView branch_forward(const ModelPass& p, int64_t j) const;
  void branch_backward(const ModelPass& p, int64_t j, const ConstTensorView& d_output,
                       const TensorView& d_input) const;
  ArenaPlan::Id branch_gradient_id(int64_t j) const;

  const ExecutionContext& ctx;
  ModelConfig config;
  Limits limits;
  ParameterTable table;
  ActivationPlan plan;
  Arena arena;
  Tensor weights, gradients, mean, scale;
  Tensor factors;  // the weights rounded, in bf16 only
  DenseParameters input;
  std::vector<AttentionBranch> attention;
  std::vector<FeedForwardBranch> feed_forward;
  std::vector<ResidualNorm> norms;
  std::optional<StemHeads> heads;
  std::vector<int64_t> final_marks;
  std::optional<ModelPass> pass;  // the last forward; training: until backward
};

namespace {

Tensor filled(const ExecutionContext& ctx, const Shape& shape, float value, const char* purpose) {
  Tensor tensor(shape, DType::kF32, ctx.resource(), purpose);
  if (value == 0.0f) {
    ctx.stream().fill(tensor.view().data(), 0, tensor.bytes());
    return tensor;
  }
  write_on_host(ctx, tensor.view(), [&](const TensorView& host) {
    std::fill_n(host.as<float>(), host.elements(), value);
  });
  return tensor;
}

}  // namespace

Separator::State::State(const ExecutionContext& context, const ModelConfig& model,
                        const Limits& sizes)
    : ctx(context),
      config(model),
      limits(sizes),
      table(config),
      plan(config, limits),
      arena(plan.arena, ctx.resource(), "activations"),
      weights(filled(ctx, {table.block_elements()}, 0.0f, "weights")),
      mean(filled(ctx, {config.input_dim}, 0.0f, "input mean")),
      scale(filled(ctx, {config.input_dim}, 1.0f, "input scale")) {
  if (limits.training) {
    gradients = filled(ctx, {table.block_elements()}, 0.0f, "gradients");
  }
  if (limits.precision == DType::kBF16) {
    factors = Tensor(Shape{table.block_elements()}, DType::kBF16, ctx.resource(), "bf16 weights");
  }
  build_layers();
}

void Separator::State::build_layers() {
  const ParameterBlocks blocks{.table = table,
                               .weights = weights.as<float>(),
                               .gradients = limits.training ? gradients.as<float>() : nullptr,
                               .factors = factors ? factors.as<Bf16>() : nullptr};
  input = dense_parameters(blocks, "input");
  for (int64_t i = 0; i < config.depth; ++i) {
    const auto n = static_cast<std::size_t>(i);
    attention.emplace_back(config, blocks, i, plan.attention[n], limits.cudnn);
    feed_forward.emplace_back(config, blocks, i, plan.feed_forward[n]);
  }
  // Post-norm: ln1 of a block follows its attention. Pre-norm: ln1 precedes it, so that the norm
  // after a branch is the one that the next branch (or the heads) reads through.
  std::vector<std::string> names;
  for (int64_t i = 0; i < config.depth; ++i) {
    names.push_back(fmt::format("blocks.{}.ln1", i));
    names.push_back(fmt::format("blocks.{}.ln2", i));
  }
  if (pre_norm()) {
    names.emplace_back("final_norm");
  }
  for (std::size_t k = 0; k < names.size(); ++k) {
    const int64_t branch = static_cast<int64_t>(k) - (pre_norm() ? 1 : 0);
    const bool after_attention = branch % 2 == 0;
    norms.emplace_back(config, norm_parameters(blocks, names[k]),
                       after_attention ? config.attn_dropout : config.ff_dropout,
                       std::max<int64_t>(branch, 0) / 2,
                       after_attention ? RandomPurpose::kAttentionOutputDropout
                                       : RandomPurpose::kFeedForwardDropout,
                       plan.norms[k]);
  }
  heads.emplace(config, blocks, plan.heads);
  final_marks.push_back(table.fused("heads.hidden.kernel").offset);
  for (int64_t i = config.depth - 1; i >= 0; --i) {
    final_marks.push_back(table.fused(fmt::format("blocks.{}.attn.qkv.kernel", i)).offset);
  }
}

void Separator::State::check_inputs(const ConstTensorView& inputs,
                                    const ConstTensorView& mask) const {
  check_tensor("Separator::forward", "inputs", inputs, DType::kF32, {-1, -1, -1});
  const int64_t batch = inputs.dim(0);
  const int64_t tokens = inputs.dim(1);
  if (inputs.dim(2) != config.input_dim) {
    throw InputError("inputs have {} features per token, but the model takes {}", inputs.dim(2),
                     config.input_dim);
  }
  if (tokens > config.max_sequence_length) {
    throw InputError(
        "inputs have {} tokens, but the model takes at most {} (model.max_sequence_length); cut "
        "them into shorter sequences",
        tokens, config.max_sequence_length);
  }
  SF_CHECK(batch >= 1 && tokens >= 1 && batch <= limits.batch && tokens <= limits.tokens,
           "memory was planned for {} samples of {} tokens, not for {} of {}", limits.batch,
           limits.tokens, batch, tokens);
  SF_CHECK(inputs.contiguous(), "Separator::forward: inputs must be contiguous");
  if (mask) {
    check_tensor("Separator::forward", "mask", mask, DType::kU8, {batch, tokens});
    SF_CHECK(mask.contiguous(), "Separator::forward: mask must be contiguous");
  }
}

void Separator::State::embed_forward(const ModelPass& p, const ConstTensorView& inputs) {
  const TensorView standardised = p.matrix(plan.input, config.input_dim);
  {
    const TraceScope scope("input standardise");
    standardize(ctx, {.x = inputs.reshape(standardised.shape()),
                      .mean = mean.view(),
                      .scale = scale.view(),
                      .y = standardised});
  }
  const TraceScope scope("input product");
  LinearForwardArgs args{
      .x = standardised, .kernel = input.kernel, .bias = input.bias, .y = embed(p)};
  if (config.positions == "learned") {
    args.row_bias = factors ? position_rows(factors.as<Bf16>(), p.tokens)
                            : position_rows(weights.as<float>(), p.tokens);
  }
  linear_forward(ctx, args);
}

void Separator::State::embed_backward(const ModelPass& p, const ConstTensorView& d_embed) {
  const TraceScope scope("input product backward");
  linear_backward_kernel(ctx, {.x = p.matrix(plan.input, config.input_dim),
                               .dy = d_embed,
                               .dkernel = input.kernel_grad,
                               .dbias = input.bias_grad});
  if (config.positions == "learned") {
    column_sum(ctx, {.x = d_embed, .out = position_rows(gradients.as<float>(), p.tokens)});
  }
}

TensorView Separator::State::branch_forward(const ModelPass& p, int64_t j) const {
  const TensorView from = branch_input(p, j);
  return j % 2 == 0 ? attention_of(j).forward(p, from) : feed_forward_of(j).forward(p, from);
}

void Separator::State::branch_backward(const ModelPass& p, int64_t j,
                                       const ConstTensorView& d_output,
                                       const TensorView& d_input) const {
  const TensorView from = branch_input(p, j);
  // Post-norm: the branch's input is the residual too, whose gradient is there already.
  const bool accumulate = !pre_norm();
  if (j % 2 == 0) {
    attention_of(j).backward(p, from, d_output, d_input, accumulate);
  } else {
    feed_forward_of(j).backward(p, from, d_output, d_input, accumulate);
  }
}

ArenaPlan::Id Separator::State::branch_gradient_id(int64_t j) const {
  const auto block = static_cast<std::size_t>(j / 2);
  return j % 2 == 0 ? plan.attention[block].output_gradient
                    : plan.feed_forward[block].output_gradient;
}

Separator::Separator(const ExecutionContext& ctx, const ModelConfig& config, const Limits& limits)
    : state_(std::make_unique<State>(ctx, config, limits)) {}
Separator::~Separator() = default;

const ExecutionContext& Separator::context() const { return state_->ctx; }
const ModelConfig& Separator::config() const { return state_->config; }
const Separator::Limits& Separator::limits() const { return state_->limits; }
const ParameterTable& Separator::parameters() const { return state_->table; }
TensorView Separator::weights() { return state_->weights.view(); }
ConstTensorView Separator::weights() const {
  return static_cast<const Tensor&>(state_->weights).view();
}
TensorView Separator::input_mean() { return state_->mean.view(); }
TensorView Separator::input_scale() { return state_->scale.view(); }
std::size_t Separator::activation_bytes() const { return state_->plan.arena.bytes(); }
std::size_t Separator::parameter_bytes() const {
  return state_->weights.bytes() + state_->gradients.bytes() + state_->factors.bytes();
}

TensorView Separator::gradients() {
  SF_CHECK(state_->limits.training, "gradients of a model that was planned for inference");
  return state_->gradients.view();
}

ConstTensorView Separator::forward(const ConstTensorView& inputs, const ConstTensorView& mask,
                                   bool training, const StepRandom& random) {
  State& s = *state_;
  s.check_inputs(inputs, mask);
  SF_CHECK(!training || s.limits.training, "training pass of a model planned for inference");
  s.pass.reset();
  ModelPass p{.ctx = s.ctx,
              .arena = s.arena,
              .batch = inputs.dim(0),
              .tokens = inputs.dim(1),
              .training = training,
              .random = random,
              .mask = {}};
  if (mask) {
    const TensorView copy(s.arena.view(s.plan.mask).data(), DType::kU8, mask.shape());
    s.ctx.stream().copy(copy.data(), mask.data(), mask.bytes());
    p.mask = copy;
  }
  if (s.factors) {
    const TraceScope scope("weights to bf16");
    cast(s.ctx, {.x = s.weights.view(), .y = s.factors.view()});
  }
  s.embed_forward(p, inputs);
  ConstTensorView residual = s.embed(p);
  if (s.pre_norm()) {
    s.norm_after(-1).forward(p, {}, residual);
    residual = s.norm_after(-1).sum(p);
  }
  for (int64_t j = 0; j < s.branches(); ++j) {
    const TensorView branch = s.branch_forward(p, j);
    const ResidualNorm& norm = s.norm_after(j);
    norm.forward(p, branch, residual);
    residual = s.pre_norm() ? norm.sum(p) : norm.y(p);
  }
  s.heads->forward(p, s.branch_input(p, s.branches()));
  s.pass.emplace(p);
  return s.heads->output(p);
}

TensorView Separator::output_gradient() {
  SF_CHECK(state_->pass && state_->pass->training,
           "output_gradient() is there between a training forward() and its backward()");
  return state_->heads->output_gradient(*state_->pass);
}

const std::vector<int64_t>& Separator::final_marks() const { return state_->final_marks; }

void Separator::backward(const std::function<void(int64_t)>& kernels_are_final) {
  State& s = *state_;
  const auto final_from = [&](std::size_t mark) {
    if (kernels_are_final) {
      kernels_are_final(s.final_marks[mark]);
    }
  };
  SF_CHECK(s.pass && s.pass->training, "backward() without a training forward() before it");
  const ModelPass p = *s.pass;
  s.pass.reset();  // its memory is used up
  const TensorView d_stream = p.matrix(s.plan.stream_gradient, s.config.dim);
  const TensorView d_input =
      s.pre_norm() ? p.matrix(s.plan.normed_gradient, s.config.dim) : d_stream;
  s.heads->backward(p, s.branch_input(p, s.branches()), d_input);
  final_from(0);
  // Pre-norm: the stream's gradient beside the branches; nothing reaches its end from elsewhere.
  ConstTensorView d_sum;
  for (int64_t j = s.branches() - 1; j >= 0; --j) {
    const ConstTensorView d_branch =
        s.norm_after(j).backward(p, d_input, d_sum, d_stream, s.branch_gradient_id(j));
    d_sum = s.pre_norm() ? ConstTensorView(d_stream) : ConstTensorView();
    s.branch_backward(p, j, d_branch, d_input);
    if (j % 2 == 0) {  // the block's attention, which comes first in the block of parameters
      final_from(static_cast<std::size_t>(s.config.depth - j / 2));
    }
  }
  if (s.pre_norm()) {
    s.norm_after(-1).backward(p, d_input, d_sum, d_stream, -1);
  }
  s.embed_backward(p, d_stream);
}

namespace {
Tensor copied(const ModelPass& p, const ConstTensorView& rows) {
  Tensor tensor({p.batch, p.tokens, rows.dim(1)}, DType::kF32);
  if (rows.dtype() == DType::kF32) {
    copy_to_host(p.ctx, tensor.view().data(), rows);
    return tensor;
  }
  Tensor wide(rows.shape(), DType::kF32, p.ctx.resource(), "copied rows");
  cast(p.ctx, {.x = rows, .y = wide.view()});
  copy_to_host(p.ctx, tensor.view().data(), wide.view());
  return tensor;
}
}  // namespace

std::map<std::string, Tensor> Separator::taps() const {
  const State& s = *state_;
  SF_CHECK(s.pass && s.pass->training, "taps() without a training forward() before it");
  const ModelPass& p = *s.pass;
  std::map<std::string, Tensor> taps;
  taps["embed"] = copied(p, s.pre_norm() ? s.norm_after(-1).sum(p) : s.embed(p));
  Tensor output({p.rows(), s.config.dim}, s.limits.precision, s.ctx.resource(), "branch output");
  for (int64_t i = 0; i < s.config.depth; ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    // Branch outputs are not kept; their inputs are.
    s.attention_of(2 * i).recompute_output(p, output.view());
    taps[block + "attn"] = copied(p, output.view());
    s.feed_forward_of(2 * i + 1).recompute_output(p, output.view());
    taps[block + "ff"] = copied(p, output.view());
    const auto norm = static_cast<std::size_t>(2 * i);
    taps[block + "ln1"] = copied(p, s.norms[norm].y(p));
    taps[block + "ln2"] = copied(p, s.norms[norm + 1].y(p));
  }
  return taps;
}

std::size_t plan_activation_bytes(const ModelConfig& config, const Separator::Limits& limits) {
  return ActivationPlan(config, limits).arena.bytes();
}

}  // namespace stemfabric
