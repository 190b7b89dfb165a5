#include "trainer/training/stem_objective.h"

#include <algorithm>

#include "runtime/memory/host_access.h"

namespace stemfabric {
namespace {

constexpr int64_t kCount = 0;
constexpr int64_t kLoss = 1;
constexpr int64_t kWeighted = 2;
static_assert(sizeof(StemSums) == 3 * sizeof(StemValues));

}  // namespace

StemObjective::StemObjective(const ExecutionContext& ctx)
    : ctx_(ctx),
      sums_(Shape{3, kStemCount}, DType::kF64, ctx.resource(), "sums of the loss"),
      ones_(Shape{kStemCount}, DType::kF64, ctx.resource(), "sums of the loss") {
  write_on_host(ctx, ones_.view(),
                [](const TensorView& ones) { std::fill_n(ones.as<double>(), kStemCount, 1.0); });
  reset();
}

TensorView StemObjective::sum(int64_t row) {
  return sums_.view().slice(0, row, 1).reshape({kStemCount});
}

TensorView StemObjective::counts() { return sum(kCount); }
TensorView StemObjective::loss_sums() { return sum(kLoss); }
TensorView StemObjective::weighted_sums() { return sum(kWeighted); }
TensorView StemObjective::both_losses() {
  static_assert(kWeighted == kLoss + 1);
  return sums_.view().slice(0, kLoss, 2).reshape({2 * kStemCount});
}
ConstTensorView StemObjective::losses() { return sum(kLoss); }
ConstTensorView StemObjective::weighted_losses() { return sum(kWeighted); }

void StemObjective::reset() { ctx_.stream().fill(sums_.view().data(), 0, sums_.bytes()); }

void StemObjective::add(const StagedBatch& batch, const ConstTensorView& prediction,
                        const TensorView& gradient) {
  run(batch, prediction, sum(kCount), gradient);
}

void StemObjective::add_sums(const StagedBatch& batch, const ConstTensorView& prediction) {
  count(batch);
  run(batch, prediction, ones_.view(), {});
}

StemSums StemObjective::read() const {
  StemSums sums;
  copy_to_host(ctx_, &sums, sums_.view());
  return sums;
}

LossValues StemSums::values() const {
  LossValues values{.stem = loss};
  for (const double value : weighted) {
    values.total += value;
  }
  return values;
}

LossValues StemSums::mean_of_sums() const {
  LossValues mean;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (count[s] > 0) {
      mean.stem[s] = loss[s] / count[s];
      mean.total += weighted[s] / count[s];
    }
  }
  return mean;
}

}  // namespace stemfabric
