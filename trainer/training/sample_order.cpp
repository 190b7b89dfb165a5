#include "trainer/training/sample_order.h"

#include <algorithm>
#include <numeric>

#include "kernels/common/philox.h"
#include "runtime/core/check.h"
#include "trainer/random_purpose.h"

namespace stemfabric {
namespace {

// Uniform in [0, n): the high half of a 64 × 64 bit product; its bias is below n / 2^64.
int64_t draw(PhiloxKey key, uint64_t counter, int64_t n) {
  const PhiloxCounter c = philox4x32_10(
      {{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0}}, key);
  const uint64_t bits = (uint64_t{c.word[1]} << 32) | c.word[0];
  __extension__ using Wide = unsigned __int128;
  return static_cast<int64_t>((Wide{bits} * static_cast<uint64_t>(n)) >> 64);
}

}  // namespace

std::vector<int64_t> epoch_order(int64_t samples, uint64_t seed, int64_t epoch, bool shuffle) {
  std::vector<int64_t> order(static_cast<std::size_t>(samples));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (!shuffle) {
    return order;
  }
  const PhiloxKey key = philox_launch_key(seed, static_cast<uint64_t>(epoch), 0,
                                          static_cast<uint32_t>(RandomPurpose::kShuffle));
  for (int64_t i = samples - 1; i > 0; --i) {
    const int64_t j = draw(key, static_cast<uint64_t>(i), i + 1);
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
  }
  return order;
}

int64_t StepPlan::samples_in_step(int64_t step_in_epoch) const {
  return std::min(samples_per_step(), samples - step_in_epoch * samples_per_step());
}

int64_t StepPlan::micro_batches_in_step(int64_t step_in_epoch) const {
  return (samples_in_step(step_in_epoch) + micro_batch() - 1) / micro_batch();
}

std::vector<int64_t> samples_of_step(const StepPlan& plan, uint64_t seed, bool shuffle,
                                     int64_t epoch, int64_t step_in_epoch) {
  const std::vector<int64_t> order = epoch_order(plan.samples, seed, epoch, shuffle);
  const auto begin = order.begin() + step_in_epoch * plan.samples_per_step();
  return {begin, begin + plan.samples_in_step(step_in_epoch)};
}

SampleStream::SampleStream(const StepPlan& plan, uint64_t seed, bool shuffle, int64_t epoch,
                           int64_t step_in_epoch)
    : plan_(plan),
      seed_(seed),
      shuffle_(shuffle),
      epoch_(epoch),
      position_(std::min(plan.samples, step_in_epoch * plan.samples_per_step())) {
  SF_CHECK(plan.samples > 0 && plan.batch_size > 0 && plan.accumulation > 0);
  SF_CHECK(plan.rank >= 0 && plan.rank < plan.ranks, "rank {} of {}", plan.rank, plan.ranks);
  order_ = epoch_order(plan_.samples, seed_, epoch_, shuffle_);
}

std::span<const int64_t> SampleStream::next() {
  if (position_ == plan_.samples) {
    position_ = 0;
    order_ = epoch_order(plan_.samples, seed_, ++epoch_, shuffle_);
  }
  const int64_t size = std::min(plan_.micro_batch(), plan_.samples - position_);
  const int64_t begin = position_ + size * plan_.rank / plan_.ranks;
  const int64_t end = position_ + size * (plan_.rank + 1) / plan_.ranks;
  first_in_step_ = begin % plan_.samples_per_step();
  of_all_ranks_ = size;
  position_ += size;
  return {order_.data() + begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace stemfabric
