// Every op names the argument at fault: each argument in turn is left out, gets another dtype,
// another rank and another size, and the error must say which op and which argument.
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <string>
#include <vector>

#include "kernels/activation/activation.h"
#include "kernels/adam/adam.h"
#include "kernels/attention/attention.h"
#include "kernels/istft/istft.h"
#include "kernels/linear/linear.h"
#include "kernels/reduction/reduction.h"
#include "kernels/residual_norm/residual_norm.h"
#include "kernels/rotary/rotary.h"
#include "kernels/standardize/standardize.h"
#include "kernels/stem_loss/stem_loss.h"
#include "kernels/stem_mask/stem_mask.h"
#include "kernels/step_control/step_control.h"
#include "kernels/stft/stft.h"
#include "kernels/stft_features/stft_features.h"
#include "runtime/memory/buffer.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

constexpr int kLastAxis = -1;
constexpr int kNone = -100;  // no axis whose size this argument alone can get wrong

// How an argument may be wrong, apart from its dtype.
struct Rules {
  bool required = true;
  int axis = kLastAxis;  // a size that other arguments fix
  bool fixed_rank = true;
};
constexpr Rules kOptional = {.required = false};
constexpr Rules kFullRank = {.fixed_rank = false};  // six axes, there cannot be more
constexpr Rules kLeading = {.axis = kNone};  // the argument whose shape the others must follow

template <typename Args>
class ContractCheck {
 public:
  using Op = void (*)(const ExecutionContext&, const Args&);
  // `valid` must be accepted as it is.
  ContractCheck(const char* name, Op op, const Args& valid) : name_(name), op_(op), valid_(valid) {
    EXPECT_NO_THROW(op_(test_context(), valid_)) << name;
  }

  template <bool kConst>
  ContractCheck& argument(const char* name, BasicTensorView<kConst> Args::*view,
                          const Rules& rules = {}) {
    using View = BasicTensorView<kConst>;
    const View good = valid_.*view;
    std::vector<int64_t> dims(good.shape().dims().begin(), good.shape().dims().end());
    const DType other = good.dtype() == DType::kF64 ? DType::kF32 : DType::kF64;
    refuses(name, "has", view, View(good.data(), other, good.shape()));
    if (rules.required) {
      refuses(name, "is missing", view, View());
    }
    if (rules.fixed_rank) {
      std::vector<int64_t> more = dims;
      more.push_back(1);
      refuses(name, "has shape", view, View(good.data(), good.dtype(), Shape(more)));
    }
    if (rules.axis != kNone) {
      std::vector<int64_t> wrong = dims;
      wrong[rules.axis == kLastAxis ? wrong.size() - 1 : static_cast<std::size_t>(rules.axis)] += 1;
      refuses(name, "has shape", view, View(good.data(), good.dtype(), Shape(wrong)));
    }
    return *this;
  }

 private:
  template <bool kConst>
  void refuses(const char* name, const char* what, BasicTensorView<kConst> Args::*view,
               const BasicTensorView<kConst>& bad) {
    Args args = valid_;
    args.*view = bad;
    expect_contract_error({std::string(name_) + ": " + name + " " + what},
                          [&] { op_(test_context(), args); });
  }

  const char* name_;
  Op op_;
  Args valid_;
};

class Contract : public testing::Test {
 protected:
  TensorView make(const Shape& shape, DType dtype = DType::kF32) {
    return tensors_.emplace_back(Tensor::zeros(shape, dtype)).view();
  }

 private:
  std::deque<Tensor> tensors_;
};

TEST_F(Contract, Activation) {
  using Forward = ActivationForwardArgs;
  ContractCheck<Forward>("activation_forward", activation_forward,
                         {.x = make({3, 5}), .y = make({3, 5})})
      .argument("x", &Forward::x, {.axis = kNone, .fixed_rank = false})
      .argument("y", &Forward::y);
  using Backward = ActivationBackwardArgs;
  ContractCheck<Backward>("activation_backward", activation_backward,
                          {.x = make({3, 5}), .dy = make({3, 5}), .dx = make({3, 5})})
      .argument("x", &Backward::x, {.axis = kNone, .fixed_rank = false})
      .argument("dy", &Backward::dy)
      .argument("dx", &Backward::dx);
}

TEST_F(Contract, Adam) {
  ContractCheck<AdamArgs>("adam_step", adam_step,
                          {.parameter = make({9}),
                           .m = make({9}),
                           .v = make({9}),
                           .gradient = make({9}),
                           .gate = make({3}, DType::kF64),
                           .scalars = make({3}, DType::kF64)})
      .argument("parameter", &AdamArgs::parameter, kLeading)
      .argument("gradient", &AdamArgs::gradient)
      .argument("m", &AdamArgs::m)
      .argument("v", &AdamArgs::v)
      .argument("gate", &AdamArgs::gate, kOptional)
      .argument("scalars", &AdamArgs::scalars, kOptional);
  ContractCheck<EmaArgs>(
      "ema_update", ema_update,
      {.average = make({9}), .parameter = make({9}), .gate = make({3}, DType::kF64)})
      .argument("average", &EmaArgs::average, kLeading)
      .argument("parameter", &EmaArgs::parameter)
      .argument("gate", &EmaArgs::gate, kOptional);
}

TEST_F(Contract, AttentionForward) {
  using Args = AttentionForwardArgs;
  const Shape rows = {2, 5, 3, 8};
  ContractCheck<Args>("attention_forward", attention_forward,
                      {.q = make(rows),
                       .k = make(rows),
                       .v = make(rows),
                       .key_mask = make({2, 5}, DType::kU8),
                       .o = make(rows),
                       .o2 = make(rows),
                       .u = make(rows),
                       .stats = make({2, 3, 5, 4})})
      .argument("q", &Args::q, kLeading)
      .argument("k", &Args::k)
      .argument("v", &Args::v)
      .argument("key_mask", &Args::key_mask, kOptional)
      .argument("o", &Args::o)
      .argument("o2", &Args::o2)
      .argument("u", &Args::u)
      .argument("stats", &Args::stats);
}

TEST_F(Contract, AttentionBackward) {
  using Args = AttentionBackwardArgs;
  const Shape rows = {2, 5, 3, 8};
  ContractCheck<Args>("attention_backward", attention_backward,
                      {.q = make(rows),
                       .k = make(rows),
                       .v = make(rows),
                       .key_mask = make({2, 5}, DType::kU8),
                       .o = make(rows),
                       .o2 = make(rows),
                       .u = make(rows),
                       .stats = make({2, 3, 5, 4}),
                       .d_o = make(rows),
                       .dq = make(rows),
                       .dk = make(rows),
                       .dv = make(rows)})
      .argument("q", &Args::q, kLeading)
      .argument("k", &Args::k)
      .argument("v", &Args::v)
      .argument("key_mask", &Args::key_mask, kOptional)
      .argument("o", &Args::o)
      .argument("o2", &Args::o2)
      .argument("u", &Args::u)
      .argument("stats", &Args::stats)
      .argument("d_o", &Args::d_o)
      .argument("dq", &Args::dq)
      .argument("dk", &Args::dk)
      .argument("dv", &Args::dv);
}

TEST_F(Contract, Linear) {
  using Forward = LinearForwardArgs;
  ContractCheck<Forward>("linear_forward", linear_forward,
                         {.x = make({4, 3}),
                          .kernel = make({3, 5}),
                          .bias = make({5}),
                          .row_bias = make({2, 5}),
                          .y = make({4, 5}),
                          .pre_activation = make({4, 5})})
      .argument("x", &Forward::x, kLeading)
      .argument("kernel", &Forward::kernel, {.axis = 0})
      .argument("bias", &Forward::bias, kOptional)
      .argument("row_bias", &Forward::row_bias, kOptional)
      .argument("y", &Forward::y)
      .argument("pre_activation", &Forward::pre_activation, kOptional);
  using BackwardInput = LinearBackwardInputArgs;
  ContractCheck<BackwardInput>("linear_backward_input", linear_backward_input,
                               {.dy = make({4, 5}),
                                .kernel = make({3, 5}),
                                .dx = make({4, 3}),
                                .input_activation = Activation::kRelu,
                                .saved = make({4, 3})})
      .argument("dy", &BackwardInput::dy, kLeading)
      .argument("kernel", &BackwardInput::kernel)
      .argument("dx", &BackwardInput::dx)
      .argument("saved", &BackwardInput::saved);
  using BackwardKernel = LinearBackwardKernelArgs;
  ContractCheck<BackwardKernel>(
      "linear_backward_kernel", linear_backward_kernel,
      {.x = make({4, 3}), .dy = make({4, 5}), .dkernel = make({3, 5}), .dbias = make({5})})
      .argument("x", &BackwardKernel::x, kLeading)
      .argument("dy", &BackwardKernel::dy, {.axis = 0})
      .argument("dkernel", &BackwardKernel::dkernel)
      .argument("dbias", &BackwardKernel::dbias, kOptional);
}

TEST_F(Contract, Reduction) {
  ContractCheck<SumSquaresArgs>("sum_squares", sum_squares_into,
                                {.x = make({9}), .result = make({3}, DType::kF64)})
      .argument("x", &SumSquaresArgs::x, kLeading)
      .argument("result", &SumSquaresArgs::result);
  ContractCheck<ColumnSumArgs>("column_sum", column_sum, {.x = make({6, 4}), .out = make({2, 4})})
      .argument("x", &ColumnSumArgs::x, kLeading)
      .argument("out", &ColumnSumArgs::out);
}

TEST_F(Contract, ResidualNorm) {
  using Forward = ResidualNormForwardArgs;
  ContractCheck<Forward>("residual_norm_forward", residual_norm_forward,
                         {.x = make({4, 5}),
                          .residual = make({4, 5}),
                          .gamma = make({5}),
                          .beta = make({5}),
                          .sum = make({4, 5}),
                          .y = make({4, 5}),
                          .mean = make({4}),
                          .rstd = make({4})})
      .argument("residual", &Forward::residual, kLeading)
      .argument("x", &Forward::x, kOptional)
      .argument("gamma", &Forward::gamma)
      .argument("beta", &Forward::beta)
      .argument("sum", &Forward::sum)
      .argument("y", &Forward::y, kOptional)
      .argument("mean", &Forward::mean, kOptional)
      .argument("rstd", &Forward::rstd, kOptional);
  using Backward = ResidualNormBackwardArgs;
  ContractCheck<Backward>("residual_norm_backward", residual_norm_backward,
                          {.dy = make({4, 5}),
                           .dsum = make({4, 5}),
                           .sum = make({4, 5}),
                           .mean = make({4}),
                           .rstd = make({4}),
                           .gamma = make({5}),
                           .dresidual = make({4, 5}),
                           .dx = make({4, 5}),
                           .dgamma = make({5}),
                           .dbeta = make({5})})
      .argument("dresidual", &Backward::dresidual, kLeading)
      .argument("dy", &Backward::dy, kOptional)
      .argument("dsum", &Backward::dsum, kOptional)
      .argument("sum", &Backward::sum)
      .argument("mean", &Backward::mean)
      .argument("rstd", &Backward::rstd)
      .argument("gamma", &Backward::gamma)
      .argument("dx", &Backward::dx, kOptional)
      .argument("dgamma", &Backward::dgamma)
      .argument("dbeta", &Backward::dbeta);
}

TEST_F(Contract, ResidualNormRefusesHalfOfWhatBelongsTogether) {
  const ResidualNormForwardArgs valid = {.residual = make({4, 5}),
                                         .gamma = make({5}),
                                         .beta = make({5}),
                                         .sum = make({4, 5}),
                                         .y = make({4, 5})};
  ResidualNormForwardArgs args = valid;
  args.mean = make({4});
  expect_contract_error({"residual_norm_forward", "mean and rstd"},
                        [&] { residual_norm_forward(test_context(), args); });
  for (float p : {-0.1f, 1.0f, 0.999999f}) {
    args = valid;
    args.dropout.p = p;
    expect_contract_error({"residual_norm_forward", "dropout.p"},
                          [&] { residual_norm_forward(test_context(), args); });
  }
  args = valid;
  args.tokens_per_sample = 0;
  expect_contract_error({"residual_norm_forward", "tokens_per_sample is 0"},
                        [&] { residual_norm_forward(test_context(), args); });
  expect_contract_error({"residual_norm_backward", "dy and dsum"}, [&] {
    residual_norm_backward(test_context(), {.dresidual = make({4, 5})});
  });
}

TEST_F(Contract, Rotary) {
  ContractCheck<RotaryArgs>("rotary", rotary, {.x = make({2, 3, 2, 4})})
      .argument("x", &RotaryArgs::x, kLeading);
}

TEST_F(Contract, Standardize) {
  using Args = StandardizeArgs;
  ContractCheck<Args>("standardize", standardize,
                      {.x = make({4, 5}), .mean = make({5}), .scale = make({5}), .y = make({4, 5})})
      .argument("x", &Args::x, kLeading)
      .argument("mean", &Args::mean)
      .argument("scale", &Args::scale)
      .argument("y", &Args::y);
}

TEST_F(Contract, StemLoss) {
  const Shape shape = {3, 2, 4, 5};
  ContractCheck<StemCountArgs>("stem_count", stem_count,
                               {.target_mask = make(shape, DType::kU8),
                                .key_mask = make({2, 4}, DType::kU8),
                                .shape = shape,
                                .count = make({3}, DType::kF64)})
      .argument("target_mask", &StemCountArgs::target_mask, kOptional)
      .argument("key_mask", &StemCountArgs::key_mask, kOptional)
      .argument("count", &StemCountArgs::count);
  using Args = StemLossArgs;
  ContractCheck<Args>("stem_loss", stem_loss,
                      {.prediction = make(shape),
                       .target = make(shape),
                       .target_mask = make(shape, DType::kU8),
                       .key_mask = make({2, 4}, DType::kU8),
                       .weight = make({2, 3}),
                       .count = make({3}, DType::kF64),
                       .gradient = make(shape),
                       .loss = make({3}, DType::kF64),
                       .weighted = make({3}, DType::kF64)})
      .argument("prediction", &Args::prediction, kLeading)
      .argument("target", &Args::target)
      .argument("target_mask", &Args::target_mask, kOptional)
      .argument("key_mask", &Args::key_mask, kOptional)
      .argument("weight", &Args::weight, kOptional)
      .argument("count", &Args::count)
      .argument("gradient", &Args::gradient, kOptional)
      .argument("loss", &Args::loss)
      .argument("weighted", &Args::weighted);
}

// Three stems, two samples, two channels, four frames, five bins, six bands.
TEST_F(Contract, MaskApply) {
  using Args = MaskApplyArgs;
  ContractCheck<Args>("mask_apply", mask_apply,
                      {.kind = MaskKind::kComplex,
                       .band = make({5}, DType::kI32),
                       .fraction = make({5}),
                       .first_bin = make({6}, DType::kI32),
                       .prediction = make({3, 2, 4, 12}),
                       .mixture = make({2, 2, 4, 5, 2}),
                       .estimate = make({3, 2, 2, 4, 5, 2})})
      .argument("band", &Args::band)
      .argument("fraction", &Args::fraction)
      .argument("first_bin", &Args::first_bin, kLeading)
      .argument("prediction", &Args::prediction)
      .argument("mixture", &Args::mixture)
      .argument("estimate", &Args::estimate, kFullRank);
}

TEST_F(Contract, MaskLoss) {
  ContractCheck<MaskCountArgs>("mask_count", mask_count,
                               {.presence = make({2, 3}, DType::kU8),
                                .key_mask = make({2, 4}, DType::kU8),
                                .shape = {3, 2, 2, 4, 5},
                                .count = make({3}, DType::kF64)})
      .argument("presence", &MaskCountArgs::presence, kOptional)
      .argument("key_mask", &MaskCountArgs::key_mask, kOptional)
      .argument("count", &MaskCountArgs::count);
  using Args = MaskLossArgs;
  const Args valid = {.band = make({5}, DType::kI32),
                      .fraction = make({5}),
                      .first_bin = make({6}, DType::kI32),
                      .prediction = make({3, 2, 4, 12}),
                      .mixture = make({2, 2, 4, 5, 2}),
                      .target = make({3, 2, 2, 4, 5, 2}),
                      .presence = make({2, 3}, DType::kU8),
                      .key_mask = make({2, 4}, DType::kU8),
                      .weight = make({2, 3}),
                      .count = make({3}, DType::kF64),
                      .gradient = make({3, 2, 4, 12}),
                      .loss = make({3}, DType::kF64),
                      .weighted = make({3}, DType::kF64)};
  ContractCheck<Args>("mask_loss", mask_loss, valid)
      .argument("band", &Args::band)
      .argument("fraction", &Args::fraction)
      .argument("first_bin", &Args::first_bin, kLeading)
      .argument("prediction", &Args::prediction)
      .argument("mixture", &Args::mixture)
      .argument("target", &Args::target, kFullRank)
      .argument("presence", &Args::presence, kOptional)
      .argument("key_mask", &Args::key_mask, kOptional)
      .argument("weight", &Args::weight, kOptional)
      .argument("count", &Args::count)
      .argument("gradient", &Args::gradient, kOptional)
      .argument("loss", &Args::loss)
      .argument("weighted", &Args::weighted);
  const auto refuses = [&](double MaskLossArgs::*setting, double value, const char* name) {
    Args args = valid;
    args.*setting = value;
    expect_contract_error({"mask_loss", name}, [&] { mask_loss(test_context(), args); });
  };
  refuses(&Args::magnitude_weight, -1, "magnitude_weight");
  refuses(&Args::complex_weight, std::nan(""), "complex_weight");
  refuses(&Args::compression, 0, "compression is 0");
  refuses(&Args::compression, 1.5, "compression is 1.5");
  refuses(&Args::epsilon, 0, "epsilon is 0");
}

TEST_F(Contract, StepControl) {
  using Args = StepControlArgs;
  ContractCheck<Args>("step_control", step_control,
                      {.squares = make({3}, DType::kF64),
                       .loss = make({6}, DType::kF64),
                       .weighted = make({6}, DType::kF64),
                       .gate = make({3}, DType::kF64),
                       .lr = make({1}, DType::kF64),
                       .steps = make({1}, DType::kF64),
                       .scalars = make({3}, DType::kF64)})
      .argument("squares", &Args::squares)
      .argument("loss", &Args::loss, {.required = false, .axis = kNone})
      .argument("weighted", &Args::weighted, {.required = false, .axis = kNone})
      .argument("gate", &Args::gate)
      .argument("lr", &Args::lr)
      .argument("steps", &Args::steps)
      .argument("scalars", &Args::scalars);
}

TEST_F(Contract, Stft) {
  ContractCheck<StftArgs>("stft", stft,
                          {.signal = make({1, 2, 600}),
                           .n_fft = 512,
                           .hop_length = 128,
                           .spectra = make({1, 2, 5, 257, 2})})
      .argument("signal", &StftArgs::signal, kLeading)
      .argument("spectra", &StftArgs::spectra);
  ContractCheck<IstftArgs>("istft", istft,
                           {.spectra = make({1, 2, 5, 257, 2}),
                            .n_fft = 512,
                            .hop_length = 128,
                            .signal = make({1, 2, 600})})
      .argument("spectra", &IstftArgs::spectra)
      .argument("signal", &IstftArgs::signal, kLeading);
}

TEST_F(Contract, StftFeatures) {
  using Args = StftFeaturesArgs;
  ContractCheck<Args>("stft_features", stft_features,
                      {.signal = make({1, 2, 600}),
                       .sample_rate = 44100,
                       .n_fft = 512,
                       .hop_length = 128,
                       .features = make({1, 5, kAudioFeatures}),
                       .spectra = make({1, 2, 5, 257, 2})})
      .argument("signal", &Args::signal, {.axis = 1})
      .argument("features", &Args::features)
      .argument("spectra", &Args::spectra, kOptional);
}

// A dense innermost row is part of the contract where it is not "contiguous".
TEST_F(Contract, StridesAreChecked) {
  const TensorView x = make({4, 8});
  const TensorView turned(x.data(), DType::kF32, {8, 4}, {1, 8});
  expect_contract_error({"column_sum", "last stride of x is 8"}, [&] {
    column_sum(test_context(), {.x = turned, .out = make({1, 4})});
  });
  expect_contract_error({"residual_norm_forward", "residual must be contiguous"}, [&] {
    residual_norm_forward(test_context(), {.residual = x.slice(1, 0, 4), .sum = make({4, 4})});
  });
  const TensorView spread(x.data(), DType::kF32, {1, 1, 2, 4}, {16, 16, 1, 2});
  const TensorView dense = make({1, 1, 2, 4});
  const TensorView count = make({1}, DType::kF64);
  expect_contract_error({"stem_loss", "last stride of target is 2"}, [&] {
    stem_loss(
        test_context(),
        {.prediction = dense, .target = spread, .count = count, .loss = count, .weighted = count});
  });
  const TensorView parts_apart(x.data(), DType::kF32, {1, 1, 1, 4, 2}, {8, 8, 8, 1, 4});
  expect_contract_error({"mask_apply", "last stride of mixture is 4"},
                        [&] { mask_apply(test_context(), {.mixture = parts_apart}); });
  const TensorView bins_apart(x.data(), DType::kF32, {1, 1, 1, 4, 2}, {16, 16, 16, 4, 1});
  expect_contract_error({"mask_apply", "stride of the bins of mixture is 4"},
                        [&] { mask_apply(test_context(), {.mixture = bins_apart}); });
}

}  // namespace
}  // namespace stemfabric::test
