// Masks on spectra, and their loss with its gradient; bf16: the gradient, which a bf16 model reads
// so.
#include "kernels/stem_mask/stem_mask.h"

#include <algorithm>
#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "runtime/memory/host_access.h"
#include "tests/oracles/stem_mask_cases.h"
#include "tests/oracles/stem_mask_oracle.h"
#include "tests/support/bf16.h"

namespace stemfabric::benchmarks {
namespace {

using test::StemMaskCase;

constexpr double kEpsilon = 1e-3;

template <typename T>
Tensor table_tensor(const ExecutionContext& ctx, const std::vector<T>& values, DType dtype) {
  Tensor tensor({static_cast<int64_t>(values.size())}, dtype, ctx.resource(), "benchmark");
  write_on_host(ctx, tensor.view(), [&](const TensorView& host) {
    std::copy(values.begin(), values.end(), host.as<T>());
  });
  return tensor;
}

struct Data {
  Data(const ExecutionContext& ctx, const StemMaskCase& shape, DType gradients)
      : c(shape),
        table(mask_band_table(c.bands, c.k)),
        band(table_tensor(ctx, table.band, DType::kI32)),
        fraction(table_tensor(ctx, table.fraction, DType::kF32)),
        first_bin(table_tensor(ctx, table.first_bin, DType::kI32)),
        prediction(random_tensor(ctx, {c.s, c.b, c.t, c.outputs()}, 1)),
        mixture(random_tensor(ctx, {c.b, c.c, c.t, c.k, 2}, 2)),
        target(random_tensor(ctx, {c.s, c.b, c.c, c.t, c.k, 2}, 3)),
        estimate(output_tensor(ctx, {c.s, c.b, c.c, c.t, c.k, 2})),
        gradient(output_tensor(ctx, {c.s, c.b, c.t, c.outputs()}, gradients)),
        count(zero_tensor(ctx, {c.s}, DType::kF64)),
        loss(zero_tensor(ctx, {c.s}, DType::kF64)),
        weighted(zero_tensor(ctx, {c.s}, DType::kF64)) {
    mask_count(ctx, {.shape = {c.s, c.b, c.c, c.t, c.k}, .count = count.view()});
  }
  MaskKind kind() const { return c.complex_mask ? MaskKind::kComplex : MaskKind::kReal; }
  void run_apply(const ExecutionContext& ctx) {
    mask_apply(ctx, {.kind = kind(),
                     .band = band.view(),
                     .fraction = fraction.view(),
                     .first_bin = first_bin.view(),
                     .prediction = prediction.view(),
                     .mixture = mixture.view(),
                     .estimate = estimate.view()});
  }
  void run_loss(const ExecutionContext& ctx) {
    mask_loss(ctx, {.kind = kind(),
                    .magnitude_weight = c.magnitude_weight,
                    .complex_weight = c.complex_weight,
                    .compression = c.compression,
                    .epsilon = kEpsilon,
                    .band = band.view(),
                    .fraction = fraction.view(),
                    .first_bin = first_bin.view(),
                    .prediction = prediction.view(),
                    .mixture = mixture.view(),
                    .target = target.view(),
                    .count = count.view(),
                    .gradient = gradient.view(),
                    .loss = loss.view(),
                    .weighted = weighted.view()});
  }
  test::StemMaskInput input(const ExecutionContext& ctx) const {
    return {.shape = c,
            .epsilon = kEpsilon,
            .prediction = values_of(ctx, prediction),
            .mixture = values_of(ctx, mixture),
            .target = values_of(ctx, target),
            .presence = {},
            .key_mask = {},
            .weight = {}};
  }

  StemMaskCase c;
  MaskBandTable table;
  Tensor band, fraction, first_bin;
  Tensor prediction, mixture, target, estimate, gradient, count, loss, weighted;
};

// A few frames of the same kind, for the oracle takes its time.
void verify(const ExecutionContext& ctx, StemMaskCase c, DType gradients) {
  c.b = 1;
  c.t = 4;
  Data data(ctx, c, gradients);
  data.run_apply(ctx);
  data.run_loss(ctx);
  const auto oracle = test::stem_mask_oracle<double>(data.input(ctx));
  const auto naive = test::stem_mask_oracle<float>(data.input(ctx));
  require_within_bound("estimate", values_of(ctx, data.estimate), naive.estimate, oracle.estimate);
  require_within_bound("loss", values_of(ctx, data.loss), naive.loss, oracle.loss);
  const bool bf16 = gradients == DType::kBF16;
  require_within_bound("gradient", values_of(ctx, data.gradient),
                       bf16 ? test::rounded_to_bf16(naive.gradient) : naive.gradient,
                       oracle.gradient, bf16 ? test::kBf16Floor : test::Floor{});
}

using Run = void (Data::*)(const ExecutionContext& ctx);
std::function<void()> prepare(const ExecutionContext& ctx, const StemMaskCase& c, Run run,
                              DType gradients = DType::kF32) {
  verify(ctx, c, gradients);
  auto data = std::make_shared<Data>(ctx, c, gradients);
  ((*data).*run)(ctx);
  return [&ctx, data, run] { ((*data).*run)(ctx); };
}

double loss_bytes(const StemMaskCase& c, DType gradients) {
  const auto spared = 4 - static_cast<int64_t>(dtype_size(gradients));
  return static_cast<double>(c.loss_bytes() - spared * c.s * c.b * c.t * c.outputs());
}

void register_losses(const std::vector<StemMaskCase>& cases, RunsOn on, DType gradients) {
  for (const StemMaskCase& c : cases) {
    register_kernel(
        {.name = "mask_loss/" + c.name + implementation_name(gradients),
         .on = on,
         .bytes = loss_bytes(c, gradients),
         .prepare = [=](const auto& ctx) { return prepare(ctx, c, &Data::run_loss, gradients); }});
  }
}

void register_applying(const std::vector<StemMaskCase>& cases, RunsOn on) {
  for (const StemMaskCase& c : cases) {
    register_kernel(
        {.name = "mask_apply/" + c.name + "/stemfabric",
         .on = on,
         .bytes = static_cast<double>(c.apply_bytes()),
         .prepare = [c](const auto& ctx) { return prepare(ctx, c, &Data::run_apply); }});
  }
}

bool register_all() {
  const auto cases = test::stem_mask_benchmark_cases();
  const auto gpu_cases = test::stem_mask_gpu_benchmark_cases();
  register_losses(cases, RunsOn::kAny, DType::kF32);
  register_losses(gpu_cases, RunsOn::kGpu, DType::kF32);
  register_losses(cases, RunsOn::kCpu, DType::kBF16);
  register_losses(gpu_cases, RunsOn::kGpu, DType::kBF16);
  register_applying(cases, RunsOn::kAny);
  register_applying(gpu_cases, RunsOn::kGpu);
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
