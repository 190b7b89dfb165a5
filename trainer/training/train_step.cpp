#include "trainer/training/train_step.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <vector>

#include "kernels/reduction/reduction.h"
#include "runtime/core/check.h"
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
    SF_CHECK(options_.ranks != nullptr && ctx.is_cpu() == (options_.devices == nullptr),
             "a step shared by ranks on {}, and what adds up there", ctx.device().to_string());
    shared_ = Tensor(Shape{kStemCount + 2}, DType::kF64, ctx.resource(), "counts of all ranks");
    sums_ = make_step_sums(*options_.ranks, options_.devices);
    reducer_.emplace(ctx, *sums_, model.gradients(), model.parameters().decayed_elements(),
                     options_.gradients);
  }
}

TrainStep::~TrainStep() {
  try {
    wait_for_devices();
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
    staged.back().of_all_ranks = batch->of_all_ranks;
  }
  Record& record = this->record(launched_);
  record.lr = lr;
  optimizer_.set_lr(ctx_, &record.lr);
  if (shared()) {
    ctx_.stream().copy(of_the_step().data(), record.shared, sizeof record.shared);
  }
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
  share_gradients(times);
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

// What the step needs before it begins.
void TrainStep::share_counts(int64_t step, PhaseTimes& times) {
  if (!shared()) {
    return;
  }
  const PhaseScope scope(times, Phase::kReduction);
  sums_->begin(step);
  reducer_->begin();
  const TensorView counts = objective_.counts();
  ctx_.stream().copy(shared_.view().data(), counts.data(), counts.bytes());
  sums_->start(shared_.view(), "counts of step {}");
  sums_->join();
  ctx_.stream().copy(counts.data(), shared_.view().data(), counts.bytes());
}

void TrainStep::share_gradients(PhaseTimes& times) {
  if (!shared()) {
    return;
  }
  const PhaseScope scope(times, Phase::kReduction);
  sums_->start(objective_.both_losses(), "losses of step {}");
  reducer_->finish();
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

bool TrainStep::on_any_rank(bool here, const char* what, int64_t step) {
  return options_.devices == nullptr
             ? here
             : options_.ranks->any(here, fmt::format("{} step {}", what, step + 1));
}

TrainStep::Known TrainStep::look_up(const Places& kind, const Places& where, int64_t step) {
  const int64_t generation = ctx_.workspace().generation();
  const auto found = kinds_.find(kind);
  const bool stale = generation != workspace_generation_ || kinds_.size() > kMostGraphs ||
                     (found != kinds_.end() && found->second.where != where);
  const Known here = found == kinds_.end() ? Known::kNothing
                     : found->second.graph ? Known::kGraph
                                           : Known::kMadeOnce;
  // Whether sums of devices are captured, and which graph repeats them, has to be the same on all
  // ranks. It is as long as one graph follows another; whatever may change it lies between, where
  // the ranks ask each other.
  if (options_.devices != nullptr && routine_ && here == Known::kGraph && in_flight() > 0) {
    SF_CHECK(!stale, "the memory of a graph of step {} has changed between two steps", step + 1);
    return Known::kGraph;
  }
  wait_for_devices();
  if (on_any_rank(stale, "memory of", step)) {
    kinds_.clear();
    workspace_generation_ = generation;
    return Known::kNothing;
  }
  if (on_any_rank(here == Known::kNothing, "kind of", step)) {
    return Known::kNothing;
  }
  return on_any_rank(here == Known::kMadeOnce, "graph of", step) ? Known::kMadeOnce : Known::kGraph;
}

// The first step of a kind is made as it is: ops choose their algorithms then. So is every step
// until one takes no more scratch memory, and after any was taken elsewhere: a graph works in the
// memory that there was when it was captured.
void TrainStep::replay(std::span<const StagedBatch> micro_batches, int64_t step, PhaseTimes& times,
                       const std::function<void()>& work) {
  Places where;
  for (const StagedBatch& batch : micro_batches) {
    where.push_back(static_cast<std::uintptr_t>(batch.size));
    for (const ConstTensorView& view : batch.views()) {
      where.push_back(reinterpret_cast<std::uintptr_t>(view.data()));
    }
  }
  Places kind = where;
  if (options_.devices != nullptr) {  // the same on all ranks, whose shares may differ
    kind.assign(1, stage_.turn());
    for (const StagedBatch& batch : micro_batches) {
      kind.push_back(static_cast<std::uintptr_t>(batch.of_all_ranks));
    }
  }
  const Known known = look_up(kind, where, step);
  routine_ = known == Known::kGraph;
  if (known == Known::kNothing) {
    const int64_t generation = ctx_.workspace().generation();
    work();
    if (ctx_.workspace().generation() == generation) {
      kinds_[std::move(kind)] = {.graph = nullptr, .where = std::move(where)};
    }
    return;
  }
  std::unique_ptr<Graph>& graph = kinds_.at(kind).graph;
  if (known == Known::kMadeOnce) {
    graph.reset();
    std::string refused = "it is refused on another rank";
    try {
      graph = ctx_.stream().capture(work);
    } catch (const DeviceError& error) {  // nothing was done
      refused = error.what();
    }
    if (on_any_rank(graph == nullptr, "capture of", step)) {
      log_warning("a training step cannot be made one CUDA graph, its kernels are launched: {}",
                  refused);
      options_.graph = false;
      kinds_.clear();
      work();
      return;
    }
  }
  const PhaseScope scope(times, Phase::kOptimizer);
  graph->launch();
}

void TrainStep::give_up_devices(const Error& error) {
  const bool of_devices = error.kind() == ErrorKind::kRanks || error.kind() == ErrorKind::kDevice;
  if (options_.devices == nullptr || !of_devices) {
    return;
  }
  if (options_.ranks->options().devices_failed) {
    options_.ranks->options().devices_failed(error);
  }
  kinds_.clear();  // NCCL waits for graphs that hold sums of its
  options_.devices->stop();
  given_up_ = true;
}

void TrainStep::wait(const Launched& launched) {
  if (options_.devices == nullptr) {
    launched.done->synchronize();
    return;
  }
  try {
    options_.devices->wait(*launched.done, launched.place, std::to_string(launched.step + 1));
  } catch (const Error& error) {
    give_up_devices(error);
    throw;
  }
}

void TrainStep::wait_for_devices() {
  for (std::size_t i = collected_; i < launched_ && options_.devices != nullptr && !given_up_;
       ++i) {
    wait(launches_[i % kRecords]);
  }
}

void TrainStep::launch(std::span<const SampleBatch* const> micro_batches, int64_t step, double lr,
                       PhaseTimes& times, bool stop) {
  SF_CHECK(in_flight() < kRecords, "{} steps were launched and not collected", in_flight());
  Record& record = this->record(launched_);
  record.shared[0] = 0;
  for (const SampleBatch* batch : micro_batches) {
    record.shared[0] += static_cast<double>(batch->size);
  }
  record.shared[1] = stop ? 1 : 0;
  try {
    queue(micro_batches, step, lr, times);
  } catch (const Error& error) {
    give_up_devices(error);
    throw;
  }
  const PhaseScope scope(times, Phase::kOptimizer);
  Stream& stream = ctx_.stream();
  if (shared()) {
    stream.copy(record.shared, of_the_step().data(), sizeof record.shared);
  }
  stream.copy(&record.sums, objective_.sums().data(), sizeof record.sums);
  stream.copy(record.squares, squares_.view().data(), sizeof record.squares);
  stream.copy(record.gate, optimizer_.gate().data(), sizeof record.gate);
  launches_[launched_ % kRecords].done = stream.record();
  ++launched_;
}

void TrainStep::queue(std::span<const SampleBatch* const> micro_batches, int64_t step, double lr,
                      PhaseTimes& times) {
  std::vector<StagedBatch> staged;
  {
    const PhaseScope scope(times, Phase::kLoss);
    staged = stage(micro_batches, step, lr);
  }
  const auto work = [&] {
    accumulate(staged, step, times);
    update(times);
  };
  Launched& launched = launches_[launched_ % kRecords];
  launched.step = step;
  launched.place = options_.devices != nullptr ? options_.devices->mark() : 0;
  if (options_.graph && ctx_.stream().can_capture()) {
    replay(staged, step, times, work);
  } else {
    work();
  }
}

StepResult TrainStep::collect(PhaseTimes& times) {
  SF_CHECK(in_flight() > 0, "no step was launched");
  const PhaseScope scope(times, Phase::kOptimizer);
  wait(launches_[collected_ % kRecords]);
  const Record& record = this->record(collected_++);
  const SumSquares squares = sum_squares_of(record.squares);
  StepResult result{.loss = record.sums.values(),
                    .weighted = record.sums.weighted,
                    .counts = record.sums.count,
                    .grad_norm = record.gate[2],
                    .samples = static_cast<int64_t>(record.shared[0]),
                    .stop = record.shared[1] > 0};
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
