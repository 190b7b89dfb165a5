// Which samples make which batch: a pure function of (seed, epoch), so that any step of any epoch
// can be found again without state. The samples of a step do not depend on how many ranks share
// them, only their division does.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace stemfabric {

// The order of the samples in one epoch (epochs count from 0): a Fisher-Yates shuffle whose draws
// are Philox words keyed by (seed, epoch); 0, 1, 2, … without shuffling.
std::vector<int64_t> epoch_order(int64_t samples, uint64_t seed, int64_t epoch, bool shuffle);

// How an epoch is cut: steps of up to batch_size · ranks · accumulation samples, each of
// micro-batches of up to batch_size · ranks; the last step and the last micro-batch of an epoch may
// be smaller. Of n samples of a micro-batch rank r has those from n·r / ranks to n·(r + 1) / ranks,
// which may be none.
struct StepPlan {
  int64_t samples;     // in the data set, >= 1
  int64_t batch_size;  // most samples of a rank's share
  int64_t accumulation;
  int64_t ranks = 1;
  int64_t rank = 0;

  int64_t micro_batch() const { return batch_size * ranks; }
  int64_t samples_per_step() const { return micro_batch() * accumulation; }
  int64_t steps_per_epoch() const {
    return (samples + samples_per_step() - 1) / samples_per_step();
  }
  int64_t samples_in_step(int64_t step_in_epoch) const;
  int64_t micro_batches_in_step(int64_t step_in_epoch) const;
};

// The samples of a step, of all ranks, in their order.
std::vector<int64_t> samples_of_step(const StepPlan& plan, uint64_t seed, bool shuffle,
                                     int64_t epoch, int64_t step_in_epoch);

// A rank's shares of the micro-batches from a given step on, epoch after epoch without end.
class SampleStream {
 public:
  SampleStream(const StepPlan& plan, uint64_t seed, bool shuffle, int64_t epoch,
               int64_t step_in_epoch);
  // Valid until the next call.
  std::span<const int64_t> next();
  int64_t epoch() const { return epoch_; }  // of the samples that next() gave last
  // Place of the first of them among all samples of their step.
  int64_t first_in_step() const { return first_in_step_; }
  // How many samples all ranks have of that micro-batch.
  int64_t of_all_ranks() const { return of_all_ranks_; }

 private:
  StepPlan plan_;
  uint64_t seed_;
  bool shuffle_;
  int64_t epoch_;
  int64_t position_;
  int64_t first_in_step_ = 0;
  int64_t of_all_ranks_ = 0;
  std::vector<int64_t> order_;
};

}  // namespace stemfabric
