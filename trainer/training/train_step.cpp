#include "trainer/training/train_step.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <vector>

#include "kernels/reduction/reduction.h"
#include "runtime/core/log.h"
#include "trainer/model/model_pass.h"

namespace stemfabric {

std::string parameter_at(const ParameterTable& table, int64_t index) {
  for (const ParameterInfo& info : table.entries()) {
    const int64_t rows = info.shape.rank() == 2 ? info.shape[0] : 1;
    const int64_t columns = info.shape[-1];
    const int64_t at = index - info.offset;
    if (at < 0 || at >= (rows - 1) * info.row_stride + columns) {
      continue;
    }
    if (rows == 1 || at % info.row_stride < columns) {
      return info.name;
    }
  }
  return "padding";
}

TrainStep::TrainStep(const ExecutionContext& ctx, const Options& options, Separator& model,
                     Optimizer& optimizer, Ema* ema, StemObjective& objective, BatchStage& stage)
    : ctx_(ctx),
      options_(options),
      model_(model),
      optimizer_(optimizer),
      ema_(ema),
      objective_(objective),
      stage_(stage),
      squares_(Shape{3}, DType::kF64, ctx.resource(), "gradient norm"),
      records_(ctx.staging(), kRecords * sizeof(Record), "results of steps") {
  if (!ctx.is_cpu()) {
    const std::size_t bytes =
        static_cast<std::size_t>(dropout_key_count(layers())) * sizeof(PhiloxKey);
    keys_ = Buffer(ctx.resource(), bytes, "dropout keys");
    host_keys_ = Buffer(ctx.staging(), kRecords * bytes, "dropout keys");
  }
  if (shared()) {
    SF_CHECK(ctx.is_cpu(), "a step shared by ranks on {}", ctx.device().to_string());
    reducer_.emplace(*options_.ranks, model.gradients(), model.parameters().decayed_elements(),
                     options_.bucket_bytes);
  }
}

TrainStep::~TrainStep() {
  try {
    ctx_.stream().synchronize();
  } catch (const std::exception& error) {
    log_warning("the last steps did not come to their end: {}", error.what());
  }
}

std::vector<StagedBatch> TrainStep::stage(std::span<const SampleBatch* const> micro_batches,
                                          int64_t step, double lr) {
  std::vector<StagedBatch> staged;
  stage_.release();
  for (const SampleBatch* batch : micro_batches) {
    staged.push_back(batch->size > 0 ? stage_.put(*batch) : StagedBatch{});
    staged.back().first_in_step = batch->first_in_step;
  }
  Record& record = this->record(launched_);
  record.lr = lr;
  optimizer_.set_lr(ctx_, &record.lr);
  if (keys_.bytes() > 0) {
    auto* keys = static_cast<PhiloxKey*>(host_keys_.data()) +
                 dropout_key_count(layers()) * static_cast<int64_t>(launched_ % kRecords);
    dropout_keys(options_.seed, static_cast<uint64_t>(step), layers(), keys);
    ctx_.stream().copy(keys_.data(), keys, keys_.bytes());
  }
  return staged;
}

void TrainStep::accumulate(std::span<const StagedBatch> micro_batches, int64_t step,
                           PhaseTimes& times) {
  {
    const PhaseScope scope(times, Phase::kLoss);
    objective_.reset();
    for (const StagedBatch& batch : micro_batches) {
      if (batch.size > 0) {
        objective_.count(batch);
      }
    }
    const TensorView gradients = model_.gradients();
    ctx_.stream().fill(gradients.data(), 0, gradients.bytes());
  }
  share_counts(step, times);
  for (std::size_t i = 0; i < micro_batches.size(); ++i) {
    const StagedBatch& batch = micro_batches[i];
    if (batch.size > 0) {
      ConstTensorView prediction;
      {
        const PhaseScope scope(times, Phase::kForward);
        prediction = model_.forward(batch.inputs, batch.mask, true,
                                    {.seed = options_.seed,
                                     .step = static_cast<uint64_t>(step),
                                     .sample0 = batch.first_in_step,
                                     .keys = static_cast<const PhiloxKey*>(keys_.data())});
      }
      const PhaseScope scope(times, Phase::kLoss);
      objective_.add(batch, prediction, model_.output_gradient());
    }
    backward(batch.size > 0, i + 1 == micro_batches.size(), times);
  }
  share_gradients(step, times);
}

// Only the last micro-batch makes gradients final. A rank that has no samples in it still takes
// part in the same sums, in the same order.
void TrainStep::backward(bool any_samples, bool last, PhaseTimes& times) {
  const PhaseScope scope(times, Phase::kBackward);
  std::function<void(int64_t)> reduce;
  if (shared() && last) {
    reduce = [this](int64_t from) { reducer_->kernels_are_final(from); };
  }
  if (any_samples) {
    model_.backward(reduce);
  } else if (reduce) {
    std::ranges::for_each(model_.final_marks(), reduce);
  }
}

void TrainStep::share_counts(int64_t step, PhaseTimes& times) {
  if (!shared()) {
    return;
  }
  const PhaseScope scope(times, Phase::kReduction);
  Launched& launched = launches_[launched_ % kRecords];
  StemValues& counts = objective_.on_host().count;
  std::array<double, kStemCount + 2> sums{};
  std::ranges::copy(counts, sums.begin());
  sums[kStemCount] = static_cast<double>(launched.samples);
  sums[kStemCount + 1] = launched.stop ? 1 : 0;
  options_.ranks->all_reduce(sums, fmt::format("counts of step {}", step + 1));
  std::copy_n(sums.begin(), kStemCount, counts.begin());
  launched.samples = static_cast<int64_t>(sums[kStemCount]);
  launched.stop = sums[kStemCount + 1] > 0;
  reducer_->begin(step);
}

void TrainStep::share_gradients(int64_t step, PhaseTimes& times) {
  if (!shared()) {
    return;
  }
  const PhaseScope scope(times, Phase::kReduction);
  reducer_->finish();
  StemSums& sums = objective_.on_host();
  std::array<double, 2 * kStemCount> losses{};
  std::ranges::copy(sums.loss, losses.begin());
  std::ranges::copy(sums.weighted, losses.begin() + kStemCount);
  options_.ranks->all_reduce(losses, fmt::format("losses of step {}", step + 1));
  std::copy_n(losses.begin(), kStemCount, sums.loss.begin());
  std::copy_n(losses.begin() + kStemCount, kStemCount, sums.weighted.begin());
}

void TrainStep::update(PhaseTimes& times) {
  const PhaseScope scope(times, Phase::kOptimizer);
  sum_squares_into(ctx_, {.x = model_.gradients(), .result = squares_.view()});
  optimizer_.step(ctx_, model_.weights(), model_.gradients(),
                  {.squares = squares_.view(),
                   .loss = objective_.losses(),
                   .weighted = objective_.weighted_losses(),
                   .clip = options_.grad_clip});
  if (ema_ != nullptr) {
    ema_->update(ctx_, model_.weights(), optimizer_.gate());
  }
}

// The first step of a kind is made as it is: ops choose their algorithms then. So is every step
// until one takes no more scratch memory, and after any was taken elsewhere: a graph works in the
// memory that there was when it was captured.
void TrainStep::replay(std::span<const StagedBatch> micro_batches, PhaseTimes& times,
                       const std::function<void()>& work) {
  std::vector<std::uintptr_t> kind;
  for (const StagedBatch& batch : micro_batches) {
    kind.push_back(static_cast<std::uintptr_t>(batch.size));
    for (const ConstTensorView& view : batch.views()) {
      kind.push_back(reinterpret_cast<std::uintptr_t>(view.data()));
    }
  }
  const int64_t generation = ctx_.workspace().generation();
  if (generation != workspace_generation_ || graphs_.size() > kMostGraphs) {
    graphs_.clear();
    workspace_generation_ = generation;
  }
  const auto known = graphs_.find(kind);
  if (known == graphs_.end()) {
    work();
    if (ctx_.workspace().generation() == generation) {
      graphs_.emplace(std::move(kind), nullptr);
    }
    return;
  }
  if (known->second == nullptr) {
    try {
      known->second = ctx_.stream().capture(work);
    } catch (const DeviceError& error) {  // nothing was done
      log_warning("a training step cannot be made one CUDA graph, its kernels are launched: {}",
                  error.what());
      options_.graph = false;
      work();
      return;
    }
  }
  const PhaseScope scope(times, Phase::kOptimizer);
  known->second->launch();
}

void TrainStep::launch(std::span<const SampleBatch* const> micro_batches, int64_t step, double lr,
                       PhaseTimes& times, bool stop) {
  SF_CHECK(in_flight() < kRecords, "{} steps were launched and not collected", in_flight());
  std::vector<StagedBatch> staged;
  {
    const PhaseScope scope(times, Phase::kLoss);
    staged = stage(micro_batches, step, lr);
  }
  Launched& launched = launches_[launched_ % kRecords];
  launched.samples = 0;
  launched.stop = stop;
  for (const SampleBatch* batch : micro_batches) {
    launched.samples += batch->size;
  }
  const auto work = [&] {
    accumulate(staged, step, times);
    update(times);
  };
  if (options_.graph && ctx_.stream().can_capture()) {
    replay(staged, times, work);
  } else {
    work();
  }
  const PhaseScope scope(times, Phase::kOptimizer);
  Record& record = this->record(launched_);
  Stream& stream = ctx_.stream();
  stream.copy(&record.sums, objective_.sums().data(), sizeof record.sums);
  stream.copy(record.squares, squares_.view().data(), sizeof record.squares);
  stream.copy(record.gate, optimizer_.gate().data(), sizeof record.gate);
  launched.done = stream.record();
  ++launched_;
}

StepResult TrainStep::collect(PhaseTimes& times) {
  SF_CHECK(in_flight() > 0, "no step was launched");
  const PhaseScope scope(times, Phase::kOptimizer);
  const Launched& launched = launches_[collected_ % kRecords];
  launched.done->synchronize();
  const Record& record = this->record(collected_++);
  const SumSquares squares = sum_squares_of(record.squares);
  StepResult result{.loss = record.sums.values(),
                    .weighted = record.sums.weighted,
                    .counts = record.sums.count,
                    .grad_norm = record.gate[2],
                    .samples = launched.samples,
                    .stop = launched.stop};
  for (std::size_t s = 0; s < kStemCount && result.non_finite.empty(); ++s) {
    if (!std::isfinite(result.loss.stem[s]) || !std::isfinite(result.weighted[s])) {
      result.non_finite = fmt::format("the loss of stem {}", kStemNames[s]);
    }
  }
  if (squares.non_finite > 0) {
    result.non_finite += fmt::format("{}{} values of the gradient, first in {}",
                                     result.non_finite.empty() ? "" : " and ", squares.non_finite,
                                     parameter_at(model_.parameters(), squares.first_non_finite));
  }
  SF_CHECK(result.non_finite.empty() == (record.gate[1] != 0),
           "the gate of a step is {}, its values that are not finite: '{}'", record.gate[1],
           result.non_finite);
  return result;
}

StepResult TrainStep::run(std::span<const SampleBatch* const> micro_batches, int64_t step,
                          double lr, PhaseTimes& times) {
  SF_CHECK(in_flight() == 0, "{} steps were launched and not collected", in_flight());
  launch(micro_batches, step, lr, times);
  return collect(times);
}

}  // namespace stemfabric
