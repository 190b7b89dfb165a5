// A test of the tests: every barrier and every shuffle of every kernel is put out of order in turn,
// and each time the results must change (or the executor must notice) under some schedule. A
// barrier whose loss nothing notices is either superfluous or guarded by no test.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <functional>
#include <map>

#include "kernels/istft/istft.h"
#include "kernels/reduction/reduction.h"
#include "kernels/residual_norm/residual_norm.h"
#include "kernels/simt/executor.h"
#include "kernels/stem_loss/stem_loss.h"
#include "kernels/stem_mask/stem_mask.h"
#include "kernels/stft_features/stft_features.h"
#include "runtime/core/check.h"
#include "tests/support/attention_run.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

using Bytes = std::vector<std::byte>;

// A small call of an op; returns all that it wrote.
struct FaultCase {
  std::string name;
  std::function<Bytes(const ExecutionContext& ctx)> run;
};

// Elements alone: where they lie in memory differs from call to call.
void append(Bytes& all, const GuardedTensor& tensor) {
  for (const double value : tensor.values()) {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(double)>>(value);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
}

Bytes joined(std::initializer_list<const GuardedTensor*> tensors) {
  Bytes all;
  for (const GuardedTensor* tensor : tensors) {
    append(all, *tensor);
  }
  return all;
}

Bytes norm_forward(const ExecutionContext& ctx, int64_t columns) {
  const int64_t rows = 5;
  const GuardedTensor x = GuardedTensor::random({rows, columns}, 1);
  const GuardedTensor residual = GuardedTensor::random({rows, columns}, 2);
  const GuardedTensor gamma = GuardedTensor::random({columns}, 3);
  GuardedTensor sum({rows, columns}, DType::kF32), y({rows, columns}, DType::kF32);
  GuardedTensor mean({rows}, DType::kF32), rstd({rows}, DType::kF32);
  residual_norm_forward(ctx, {.x = x.view(),
                              .residual = residual.view(),
                              .gamma = gamma.view(),
                              .beta = gamma.view(),
                              .sum = sum.view(),
                              .y = y.view(),
                              .mean = mean.view(),
                              .rstd = rstd.view()});
  return joined({&sum, &y, &mean, &rstd});
}

Bytes norm_backward(const ExecutionContext& ctx, int64_t rows, int64_t columns) {
  const GuardedTensor dy = GuardedTensor::random({rows, columns}, 1);
  const GuardedTensor sum = GuardedTensor::random({rows, columns}, 2);
  const GuardedTensor mean = GuardedTensor::random({rows}, 3);
  const GuardedTensor rstd = GuardedTensor::random({rows}, 4, 0.5, 2);
  const GuardedTensor gamma = GuardedTensor::random({columns}, 5);
  GuardedTensor dresidual({rows, columns}, DType::kF32);
  GuardedTensor dgamma = GuardedTensor::filled({columns}, DType::kF32, 0.5);
  GuardedTensor dbeta = GuardedTensor::filled({columns}, DType::kF32, 0.5);
  residual_norm_backward(ctx, {.dy = dy.view(),
                               .sum = sum.view(),
                               .mean = mean.view(),
                               .rstd = rstd.view(),
                               .gamma = gamma.view(),
                               .dresidual = dresidual.view(),
                               .dgamma = dgamma.view(),
                               .dbeta = dbeta.view()});
  return joined({&dresidual, &dgamma, &dbeta});
}

Bytes loss(const ExecutionContext& ctx) {
  const Shape shape{3, 2, 37, 29};
  const GuardedTensor prediction = GuardedTensor::random(shape, 1);
  const GuardedTensor target = GuardedTensor::random(shape, 2);
  const GuardedTensor mask = GuardedTensor::random_mask(shape, 3, 0.7);
  GuardedTensor count = GuardedTensor::filled({3}, DType::kF64, 0);
  GuardedTensor sums = GuardedTensor::filled({3}, DType::kF64, 0);
  GuardedTensor weighted = GuardedTensor::filled({3}, DType::kF64, 0);
  GuardedTensor gradient(shape, DType::kF32);
  stem_count(ctx, {.target_mask = mask.view(), .shape = shape, .count = count.view()});
  stem_loss(ctx, {.prediction = prediction.view(),
                  .target = target.view(),
                  .target_mask = mask.view(),
                  .count = count.view(),
                  .gradient = gradient.view(),
                  .loss = sums.view(),
                  .weighted = weighted.view()});
  return joined({&count, &sums, &weighted, &gradient});
}

// Estimates and loss of a mask per channel; more bins than a block has threads.
Bytes masks(const ExecutionContext& ctx, MaskKind kind) {
  const int64_t parts = kind == MaskKind::kComplex ? 2 : 1;
  const MaskBandTable table = mask_band_table(40, 300);
  const auto tensor_of = [](const auto& values, DType dtype) {
    GuardedTensor tensor({static_cast<int64_t>(values.size())}, dtype);
    tensor.assign(std::vector<double>(values.begin(), values.end()));
    return tensor;
  };
  const GuardedTensor band = tensor_of(table.band, DType::kI32);
  const GuardedTensor fraction = tensor_of(table.fraction, DType::kF32);
  const GuardedTensor first_bin = tensor_of(table.first_bin, DType::kI32);
  const GuardedTensor prediction = GuardedTensor::random({2, 1, 3, 2 * parts * 40}, 1);
  const GuardedTensor mixture = GuardedTensor::random({1, 2, 3, 300, 2}, 2);
  const GuardedTensor target = GuardedTensor::random({2, 1, 2, 3, 300, 2}, 3);
  GuardedTensor estimate({2, 1, 2, 3, 300, 2}, DType::kF32);
  GuardedTensor gradient({2, 1, 3, 2 * parts * 40}, DType::kF32);
  GuardedTensor count = GuardedTensor::filled({2}, DType::kF64, 0);
  GuardedTensor sums = GuardedTensor::filled({2}, DType::kF64, 0);
  GuardedTensor weighted = GuardedTensor::filled({2}, DType::kF64, 0);
  mask_apply(ctx, {.kind = kind,
                   .band = band.view(),
                   .fraction = fraction.view(),
                   .first_bin = first_bin.view(),
                   .prediction = prediction.view(),
                   .mixture = mixture.view(),
                   .estimate = estimate.view()});
  mask_count(ctx, {.shape = {2, 1, 2, 3, 300}, .count = count.view()});
  mask_loss(ctx, {.kind = kind,
                  .band = band.view(),
                  .fraction = fraction.view(),
                  .first_bin = first_bin.view(),
                  .prediction = prediction.view(),
                  .mixture = mixture.view(),
                  .target = target.view(),
                  .count = count.view(),
                  .gradient = gradient.view(),
                  .loss = sums.view(),
                  .weighted = weighted.view()});
  return joined({&estimate, &count, &sums, &weighted, &gradient});
}

// One value that is not finite, in another lane each time.
Bytes squares(const ExecutionContext& ctx) {
  Bytes bytes;
  for (int64_t at = 3; at < 20000; at += 1234) {
    GuardedTensor x = GuardedTensor::random({20001}, 1);
    x.set(at, kNaN);
    GuardedTensor result({3}, DType::kF64);
    sum_squares_into(ctx, {.x = x.view(), .result = result.view()});
    append(bytes, result);
  }
  return bytes;
}

Bytes columns(const ExecutionContext& ctx, int64_t classes) {
  const GuardedTensor x = GuardedTensor::random({2048, 40}, 1);
  GuardedTensor out = GuardedTensor::filled({classes, 40}, DType::kF32, 0.25);
  column_sum(ctx, {.x = x.view(), .out = out.view()});
  return joined({&out});
}

Bytes attention(const ExecutionContext& ctx, AttentionActivation activation, int64_t dim,
                DType dtype = DType::kF32) {
  AttentionProblem problem = random_attention_problem(activation, 1, 150, 1, dim, 7);
  mask_keys_at_random(problem, 8, 0.8);
  AttentionRun run(problem, {}, {}, dtype);
  run.run(ctx);
  return joined({&run.o, &run.o2, &run.u, &run.stats, &run.dq, &run.dk, &run.dv});
}

Bytes features(const ExecutionContext& ctx, int64_t n_fft) {
  const GuardedTensor signal = GuardedTensor::random({1, 2, 2 * n_fft}, 1);
  GuardedTensor out({1, 5, kAudioFeatures}, DType::kF32);
  stft_features(ctx, {.signal = signal.view(),
                      .sample_rate = 44100,
                      .n_fft = n_fft,
                      .hop_length = n_fft / 2,
                      .features = out.view()});
  return joined({&out});
}

Bytes overlap_add(const ExecutionContext& ctx) {
  const GuardedTensor spectra = GuardedTensor::random({1, 2, 9, 257, 2}, 1);
  GuardedTensor signal({1, 2, 1024}, DType::kF32);
  istft(ctx, {.spectra = spectra.view(), .n_fft = 512, .hop_length = 128, .signal = signal.view()});
  return joined({&signal});
}

std::vector<FaultCase> fault_cases() {
  using Context = const ExecutionContext&;
  return {
      {"norm_forward_c64", [](Context ctx) { return norm_forward(ctx, 64); }},
      {"norm_forward_c1500", [](Context ctx) { return norm_forward(ctx, 1500); }},
      {"norm_backward_c64", [](Context ctx) { return norm_backward(ctx, 300, 64); }},
      {"norm_backward_c1500", [](Context ctx) { return norm_backward(ctx, 40, 1500); }},
      {"stem_loss", loss},
      {"masks_real", [](Context ctx) { return masks(ctx, MaskKind::kReal); }},
      {"masks_complex", [](Context ctx) { return masks(ctx, MaskKind::kComplex); }},
      {"sum_squares", squares},
      {"column_sum_1", [](Context ctx) { return columns(ctx, 1); }},
      {"column_sum_32", [](Context ctx) { return columns(ctx, 32); }},
      {"attention_d16",
       [](Context ctx) { return attention(ctx, AttentionActivation::kSuperpositionCentered, 16); }},
      {"attention_d40",
       [](Context ctx) {
         return attention(ctx, AttentionActivation::kSuperpositionNormalized, 40);
       }},
      {"attention_bf16_d16",
       [](Context ctx) {
         const AlignedTensors aligned;
         return attention(ctx, AttentionActivation::kSuperpositionCentered, 16, DType::kBF16);
       }},
      {"attention_bf16_d40",
       [](Context ctx) {
         return attention(ctx, AttentionActivation::kSuperpositionNormalized, 40, DType::kBF16);
       }},
      {"istft", overlap_add},
      {"stft_features_n512", [](Context ctx) { return features(ctx, 512); }},
      {"stft_features_n2048", [](Context ctx) { return features(ctx, 2048); }},
  };
}

constexpr int kSchedules = 3;

// Is the fault seen, as an error or as another result, under one of the schedules?
bool caught(const FaultCase& c, const Bytes& right, const simt::Fault& fault) {
  simt::set_fault(fault);
  bool seen = false;
  for (int variant = 1; variant <= kSchedules && !seen; ++variant) {
    try {
      seen = c.run(test_context(variant)) != right;
    } catch (const InternalError&) {
      seen = true;
    }
  }
  simt::set_fault({});
  return seen;
}

TEST(KernelFault, EveryBarrierAndShuffleMatters) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer would report the races that this test makes";
#endif
  using Kind = simt::Fault::Kind;
  std::map<std::pair<Kind, std::string>, bool> noticed;  // by some case
  for (const FaultCase& c : fault_cases()) {
    simt::take_sites();
    const Bytes right = c.run(test_context(1));
    const simt::Sites sites = simt::take_sites();
    EXPECT_FALSE(sites.block_barriers.empty() && sites.warp_barriers.empty() &&
                 sites.shuffles.empty())
        << c.name << " has nothing that could be put out of order";
    EXPECT_FALSE(caught(c, right, {})) << c.name << " has other bits under another schedule";
    const auto check = [&](Kind kind, const std::vector<std::string>& places) {
      for (const std::string& place : places) {
        bool& seen = noticed[{kind, place}];
        seen = seen || caught(c, right, {kind, place});
      }
    };
    check(Kind::kDropBlockBarrier, sites.block_barriers);
    check(Kind::kDropWarpBarrier, sites.warp_barriers);
    check(Kind::kWrongLane, sites.shuffles);
  }
  for (const auto& [fault, seen] : noticed) {
    EXPECT_TRUE(seen) << (fault.first == Kind::kWrongLane ? "a wrong lane" : "a missing barrier")
                      << " at " << fault.second << " goes unnoticed";
  }
  EXPECT_GT(noticed.size(), 20U);
}

}  // namespace
}  // namespace stemfabric::test
