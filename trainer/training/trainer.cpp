#include "trainer/training/trainer.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "runtime/io/file.h"
#include "runtime/memory/host_access.h"
#include "trainer/config/fields.h"
#include "trainer/training/preflight.h"
#include "trainer/training/ranks.h"
#include "trainer/training/resume.h"
#include "trainer/training/run_outputs.h"

namespace stemfabric {
namespace {

constexpr int64_t kStepsBeforeForecast = 5;
constexpr std::size_t kSampleIdsLogged = 8;

std::array<std::string, kStemCount> stem_tags(const std::string& prefix) {
  std::array<std::string, kStemCount> tags;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    tags[s] = prefix + std::string(kStemNames[s]);
  }
  return tags;
}
const std::array<std::string, kStemCount> kLossTags = stem_tags("loss/");
const std::array<std::string, kStemCount> kValidationTags = stem_tags("validation/");
const std::array<std::string, kStemCount> kSdrTags = stem_tags("validation_sdr/");

StepPlan step_plan(const TrainingConfig& config, const SampleSource& data,
                   const Collectives& ranks) {
  // A share larger than that of the whole data set only costs memory.
  const int64_t most = (data.size() + ranks.size() - 1) / ranks.size();
  return {.samples = data.size(),
          .batch_size = std::min(config.batch_size, most),
          .accumulation = config.gradient_accumulation_steps,
          .ranks = ranks.size(),
          .rank = ranks.rank()};
}

// num_steps alone limits a run whose num_epochs is 0 or was not set.
int64_t epoch_limit(const LoadedConfig& loaded) {
  const TrainingConfig& training = loaded.config.training;
  const bool unlimited =
      training.num_steps > 0 && (training.num_epochs == 0 || !loaded.is_set("training.num_epochs"));
  return unlimited ? std::numeric_limits<int64_t>::max() : training.num_epochs;
}

int64_t total_steps(const TrainingConfig& training, const StepPlan& plan, int64_t max_epochs) {
  const int64_t per_epoch = plan.steps_per_epoch();
  const int64_t by_epochs = max_epochs > std::numeric_limits<int64_t>::max() / per_epoch
                                ? std::numeric_limits<int64_t>::max()
                                : max_epochs * per_epoch;
  return training.num_steps > 0 ? std::min(training.num_steps, by_epochs) : by_epochs;
}

// As many epochs as num_steps takes, where only the steps count: config.yaml repeats the run.
LoadedConfig effective_config(const LoadedConfig& loaded, const TrainingSetup& setup,
                              const StepPlan& plan, int64_t steps) {
  LoadedConfig effective = loaded;
  effective.config = setup.config;
  Config before = loaded.config;
  const FieldList old = list_fields(before);
  const FieldList now = list_fields(effective.config);
  for (std::size_t i = 0; i < now.fields.size(); ++i) {
    if (value_to_yaml(old.fields[i]) != value_to_yaml(now.fields[i])) {
      effective.origins[now.fields[i].key()] = "data set or initial weights";
    }
  }
  if (epoch_limit(loaded) == std::numeric_limits<int64_t>::max()) {
    const int64_t per_epoch = plan.steps_per_epoch();
    effective.origins["training.num_epochs"] = "training.num_steps";
    effective.config.training.num_epochs = (steps + per_epoch - 1) / per_epoch;
  }
  return effective;
}

std::unique_ptr<DeviceCollectives> join_devices(const TrainOptions& options, Collectives& ranks,
                                                const ExecutionContext& ctx) {
  const NcclFunctions& nccl = options.nccl != nullptr ? *options.nccl : load_nccl();
  if (options.nccl == nullptr) {
    log_info("gradients of GPUs are added up by NCCL {}", nccl_version());
  }
  return std::make_unique<DeviceCollectives>(ranks, ctx, nccl);
}

GradientReducer::Options gradient_options(const DistributedConfig& config) {
  return {.bucket_bytes = config.bucket_bytes,
          .dtype = config.gradient_precision == "bf16" ? DType::kBF16 : DType::kF32};
}

}  // namespace

Trainer::Trainer(const LoadedConfig& config, const TrainOptions& options, TrainingSetup setup,
                 ExecutionContext ctx, Collectives& ranks, StopSignalGuard& signals)
    : loaded_(config),
      config_(config.config),
      options_(options),
      setup_(std::move(setup)),
      task_(make_training_task(setup_, resident_limit(config_.training, ctx.device(),
                                                      ctx.resource().available_bytes()))),
      plan_(step_plan(config_.training, task_->train(), ranks)),
      max_epochs_(epoch_limit(loaded_)),
      total_steps_(total_steps(config_.training, plan_, max_epochs_)),
      effective_(effective_config(loaded_, setup_, plan_, total_steps_)),
      identity_{.config_json = config_to_json(effective_.config),
                .model = setup_.model,
                .data_hash = setup_.data.hash,
                .ranks = ranks.size()},
      ctx_(std::move(ctx)),
      ranks_(ranks),
      devices_(ranks.alone() || ctx_.is_cpu() ? nullptr : join_devices(options, ranks, ctx_)),
      model_(ctx_, setup_.model,
             training_limits(config_.training, plan_.batch_size, task_->train().tokens(),
                             ctx_.device())),
      optimizer_(ctx_, optimizer_options(config_.training), model_.parameters().block_elements(),
                 model_.parameters().decayed_elements()),
      objective_(task_->make_objective(ctx_)),
      metric_(task_->make_metric(ctx_)),
      stage_(task_->make_stage(ctx_)),
      schedule_(schedule_options(config_.training, total_steps_)),
      stopping_(config_.training.patience, config_.training.min_delta),
      signals_(signals) {
  signals_.remember();
  write_on_host(ctx_, model_.weights(), [&](const TensorView& host) {
    initialise_weights(setup_, model_.parameters(), seed(), host.as<float>());
  });
  if (config_.training.ema_momentum > 0) {
    ema_ = std::make_unique<Ema>(ctx_, config_.training.ema_momentum, model_.weights());
  }
  step_ = std::make_unique<TrainStep>(
      ctx_,
      TrainStep::Options{.grad_clip = config_.training.grad_clip,
                         .seed = seed(),
                         .graph = config_.training.cuda_graph == "auto",
                         .ranks = &ranks_,
                         .devices = devices_.get(),
                         .gradients = gradient_options(config_.distributed)},
      model_, optimizer_, ema_.get(), *objective_, *stage_);
  best_ = Tensor(model_.weights().shape(), DType::kF32, ctx_.resource(), "best weights");
  ranks_.set_interrupted([this] { return !stop_agreed_ && signals_.received() != nullptr; });
}

Trainer::~Trainer() { ranks_.set_interrupted({}); }

void Trainer::set_statistics() {
  // Each rank has its own, of its copy of the data or of the initial weights; all use those of
  // rank 0.
  ranks_.broadcast(std::as_writable_bytes(std::span(setup_.statistics.mean)), "input means");
  ranks_.broadcast(std::as_writable_bytes(std::span(setup_.statistics.scale)), "input scales");
  const auto copy = [&](const std::vector<float>& from, const TensorView& to) {
    SF_CHECK(static_cast<int64_t>(from.size()) == to.elements(), "{} of {} input statistics",
             from.size(), to.elements());
    copy_from_host(ctx_, to, from.data());
  };
  copy(setup_.statistics.mean, model_.input_mean());
  copy(setup_.statistics.scale, model_.input_scale());
}

void Trainer::preflight() {
  log_preflight(config_.training, setup_, *task_, model_.parameters(), model_.limits(), plan_,
                ctx_);
}

void Trainer::start() {
  require_equal_ranks(ctx_, ranks_, identity_, model_.weights());
  bool restored = false;
  on_every_rank(ranks_, [&] {
    const std::optional<Checkpoint> checkpoint = writes() ? open_run_folder() : std::nullopt;
    preflight();
    if (checkpoint) {
      restore(*checkpoint);
      restored = true;
    }
    if (writes()) {
      open_logs();
    }
  });
  share_restored(restored);
  set_statistics();
  session_begin_ = std::chrono::steady_clock::now();
  session_first_step_ = state_.step;
  start_prefetch();
}

std::optional<Checkpoint> Trainer::open_run_folder() {
  directory_.emplace(options_.output_dir);
  std::optional<Checkpoint> checkpoint =
      choose_checkpoint(options_.resume, directory_->checkpoints(), identity_, device_kind(ctx_));
  const bool from_elsewhere = checkpoint && !is_own(*checkpoint);
  if (options_.resume == "never" || from_elsewhere) {
    const auto aside = directory_->set_aside_earlier_run();
    if (!aside.empty()) {
      log_info("starting over in {}; the earlier run was moved to {}", directory_->root().string(),
               aside.string());
    }
  }
  return checkpoint;
}

void Trainer::open_logs() {
  write_text_file(directory_->root() / "config.yaml", config_to_yaml(effective_, false));
  metrics_ = std::make_unique<MetricsLog>(directory_->metrics(), state_.metrics_bytes);
  epoch_metrics_ =
      std::make_unique<MetricsLog>(directory_->epoch_metrics(), state_.epoch_metrics_bytes);
  if (config_.logging.tensorboard) {
    events_ = std::make_unique<TensorBoardWriter>(directory_->tensorboard(), state_.step + 1);
  }
}

bool Trainer::is_own(const Checkpoint& checkpoint) const {
  const auto folder = std::filesystem::absolute(checkpoint.path).parent_path();
  return std::filesystem::equivalent(folder, directory_->checkpoints());
}

void Trainer::restore(const Checkpoint& checkpoint) {
  directory_->set_aside_checkpoints_after(checkpoint.state.step);
  setup_.statistics = restore_tensors(ctx_, checkpoint, model_.parameters(),
                                      {.weights = model_.weights(),
                                       .first_moment = optimizer_.first_moment(),
                                       .second_moment = optimizer_.second_moment(),
                                       .ema = ema_ ? ema_->average() : TensorView(),
                                       .best = best_.view()},
                                      setup_.units);
  state_ = checkpoint.state;
  take_position();
  has_best_ = checkpoint.has_best;
  if (has_best_) {
    save_best_model();  // the file may be of a later epoch than this checkpoint
  }
  if (is_own(checkpoint)) {
    checkpointed_step_ = state_.step;
  } else {
    state_.metrics_bytes = 0;  // the metrics of its steps are in another folder
    state_.epoch_metrics_bytes = 0;
  }
  log_info("resuming from {}: step {}, epoch {}", checkpoint.path.string(), state_.step,
           state_.epoch + 1);
}

void Trainer::take_position() {
  optimizer_.set_steps(ctx_, state_.optimizer_steps);
  schedule_.restore(state_.schedule);
  stopping_.restore(state_.early_stopping);
}

void Trainer::share_restored(bool restored) {
  if (ranks_.alone() || !ranks_.any(restored, "whether there is a checkpoint")) {
    return;
  }
  std::string state = training_state_to_json(state_);
  ranks_.broadcast(state, "state of the checkpoint");
  if (!writes()) {
    state_ = training_state_from_json(state, "the checkpoint on rank 0");
    take_position();
  }
  has_best_ = ranks_.any(has_best_, "whether there are best weights");
  broadcast(ctx_, ranks_, model_.weights(), "weights of the checkpoint");
  broadcast(ctx_, ranks_, optimizer_.first_moment(), "first moment of the checkpoint");
  broadcast(ctx_, ranks_, optimizer_.second_moment(), "second moment of the checkpoint");
  if (ema_) {
    broadcast(ctx_, ranks_, ema_->average(), "moving average of the checkpoint");
  }
  if (has_best_) {
    broadcast(ctx_, ranks_, best_.view(), "best weights of the checkpoint");
  }
}

void Trainer::start_prefetch() {
  batches_ = std::make_unique<Prefetcher>(
      task_->train(),
      SampleStream(plan_, seed(), config_.data.shuffle, state_.epoch, state_.step_in_epoch),
      plan_.batch_size, batches_held(plan_, ctx_.device()), ctx_.staging());
}

bool Trainer::stop_requested() const { return ranks_.alone() ? stop_wanted_here() : stop_agreed_; }

bool Trainer::agree_to_stop() {
  if (!ranks_.alone()) {
    stop_agreed_ = ranks_.any(stop_wanted_here(), "whether to stop") || stop_agreed_;
  }
  return stop_requested();
}

TrainingResult Trainer::run() {
  const TrainingResult result = train();
  leave_devices();
  return result;
}

void Trainer::leave_devices() {
  step_.reset();  // its graphs hold sums
  if (devices_) {
    devices_->close();
  }
}

TrainingResult Trainer::train() {
  start();
  Progress progress("training", "steps", total_steps_);
  progress_ = &progress;
  progress.set_done(state_.step);
  while (state_.epoch < max_epochs_ && !stopping_.should_stop()) {
    while (launched_in_epoch() < plan_.steps_per_epoch() && launched() < total_steps_ &&
           !stop_requested()) {
      take_step();
    }
    collect_all();
    if (stop_requested()) {
      return interrupted();
    }
    if (state_.step_in_epoch < plan_.steps_per_epoch()) {
      break;  // num_steps ends within an epoch
    }
    if (!end_epoch()) {
      return interrupted();
    }
    if (config_.training.num_steps > 0 && state_.step >= total_steps_) {
      break;
    }
  }
  progress_ = nullptr;
  // A number of steps that was asked for and reached keeps the weights of that step, even if the
  // last epoch ends there too.
  const bool by_steps = config_.training.num_steps > 0 && state_.step >= config_.training.num_steps;
  return finish(by_steps                  ? TrainingResult::End::kSteps
                : stopping_.should_stop() ? TrainingResult::End::kEarlyStopping
                                          : TrainingResult::End::kEpochs);
}

TrainingResult Trainer::dry_run() {
  require_equal_ranks(ctx_, ranks_, identity_, model_.weights());
  on_every_rank(ranks_, [&] { preflight(); });
  set_statistics();
  start_prefetch();
  launch_step();
  const StepRecord record = read_step();
  if (!record.skipped.empty()) {
    log_warning("the first step would be skipped: {} is not finite", record.skipped);
  }
  log_info(
      "dry run: one step took {} (data {:.0f} %), loss {}, gradient norm {}; nothing "
      "was written",
      format_duration(record.seconds.total()),
      100 * record.seconds.seconds[0] / record.seconds.total(), format_number(record.loss.total),
      format_number(record.grad_norm, 4));
  leave_devices();
  TrainingResult result;
  result.end = TrainingResult::End::kDryRun;
  result.steps = 1;
  result.train_loss = record.loss.total;
  return result;
}

void Trainer::launch_step() {
  InFlight step{
      .record = {.step = launched() + 1, .epoch = state_.epoch + 1, .lr = schedule_.lr(launched())},
      .batches = {}};
  try {
    const PhaseScope scope(step.record.seconds, Phase::kData);
    for (int64_t i = 0; i < plan_.micro_batches_in_step(launched_in_epoch()); ++i) {
      step.batches.push_back(&batches_->next());
    }
  } catch (...) {
    collect_all();  // the steps before are still to be told of
    throw;
  }
  step_->launch(step.batches, launched(), step.record.lr, step.record.seconds, stop_wanted_here());
  in_flight_.push_back(std::move(step));
}

StepRecord Trainer::read_step() {
  InFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  StepRecord& record = step.record;
  const StepResult result = step_->collect(record.seconds);
  record.loss = result.loss;
  record.grad_norm = result.grad_norm;
  record.samples = result.samples;
  stop_agreed_ = stop_agreed_ || result.stop;
  if (result.non_finite.empty()) {
    state_.skipped_in_a_row = 0;
    state_.epoch_sums.add(result.weighted, result.loss.stem, result.counts);
  } else {
    note_skipped(record, result.non_finite);
  }
  state_.last_lr = record.lr;
  ++state_.step;
  ++state_.step_in_epoch;
  batches_->release(step.batches.size());
  return record;
}

void Trainer::note_skipped(StepRecord& record, const std::string& where) {
  ++state_.skipped_steps;
  ++state_.skipped_in_a_row;
  record.skipped = where;
  for (const int64_t sample :
       samples_of_step(plan_, seed(), config_.data.shuffle, state_.epoch, state_.step_in_epoch)) {
    record.sample_ids.push_back(task_->train().name(state_.epoch, sample));
  }
  std::string ids;
  for (std::size_t i = 0; i < std::min(kSampleIdsLogged, record.sample_ids.size()); ++i) {
    ids += (i == 0 ? "" : ", ") + record.sample_ids[i];
  }
  log_warning("step {} skipped: {} not finite; samples: {}{}", record.step, where, ids,
              record.sample_ids.size() > kSampleIdsLogged ? ", … (all in metrics.jsonl)" : "");
}

void Trainer::take_step() {
  launch_step();
  while (step_->in_flight() > steps_ahead(ctx_.device())) {
    collect_step();
  }
  const int64_t every = config_.training.checkpoint_every_steps;
  if (every > 0 && launched() % every == 0 && launched_in_epoch() < plan_.steps_per_epoch()) {
    collect_all();
    save_checkpoint();  // at the end of an epoch there is one anyway
  }
  stop_by_caller_ = stop_by_caller_ || (options_.stop && options_.stop(launched()));
}

void Trainer::collect_all() {
  while (!in_flight_.empty()) {
    collect_step();
  }
}

void Trainer::collect_step() {
  const StepRecord record = read_step();
  epoch_times_.add(record.seconds);
  write_step(record);
  progress_->set_done(state_.step, "loss " + format_number(record.loss.total, 5));
  const int64_t limit = config_.training.max_non_finite_steps;
  if (state_.skipped_in_a_row >= limit) {
    try_write_report(fmt::format("stopped at step {}: {} not finite", record.step, record.skipped),
                     partial_result());
    on_every_rank(ranks_, [&] {  // losses are those of all ranks
      throw NumericError(
          "training stopped at step {}: {} steps in a row had values that are not finite; in the "
          "last one {}; lower training.lr or set training.grad_clip, and look at the samples that "
          "{} names",
          record.step, limit, record.skipped, (options_.output_dir / "metrics.jsonl").string());
    });
  }
  const int64_t done = state_.step - session_first_step_;
  if (done == kStepsBeforeForecast && total_steps_ > state_.step) {
    const double per_step = session_seconds() / static_cast<double>(done);
    log_info("{} per step; at most {} to go", format_duration(per_step),
             format_duration(per_step * static_cast<double>(total_steps_ - state_.step)));
  }
}

void Trainer::write_step(const StepRecord& record) {
  if (!writes()) {
    return;
  }
  metrics_->append(step_line(record));
  if (events_ == nullptr || record.step % config_.logging.every_steps != 0) {
    return;
  }
  std::vector<Scalar> scalars = {{"loss/total", record.loss.total},
                                 {"learning_rate", record.lr},
                                 {"gradient_norm", record.grad_norm},
                                 {"seconds_per_step", record.seconds.total()}};
  for (std::size_t s = 0; s < kStemCount; ++s) {
    scalars.push_back({kLossTags[s], record.loss.stem[s]});
  }
  events_->add_scalars(record.step, scalars);
}

void Trainer::write_epoch_line(const std::string& line) {
  if (writes()) {
    epoch_metrics_->append(line);
  }
}

void Trainer::write_epoch_events(const EpochRecord& record) {
  if (events_ == nullptr) {
    return;
  }
  std::vector<Scalar> scalars = {{"epoch/train_loss", record.train.total}};
  if (record.validation) {
    scalars.push_back({"validation/total", record.validation->total});
    for (std::size_t s = 0; s < kStemCount; ++s) {
      scalars.push_back({kValidationTags[s], record.validation->stem[s]});
    }
  }
  for (std::size_t s = 0; record.validation_sdr && s < kStemCount; ++s) {
    if (const double sdr = (*record.validation_sdr)[s]; std::isfinite(sdr)) {
      scalars.push_back({kSdrTags[s], sdr});
    }
  }
  events_->add_scalars(record.step, scalars);
}

std::optional<LossValues> Trainer::validate() {
  const PhaseScope scope(epoch_times_, Phase::kValidation);
  const EmaSwap swap(ctx_, ema_.get(), model_.weights());
  return dataset_loss(ctx_, ranks_, model_, *objective_, *stage_, metric_.get(),
                      *task_->validation(), plan_.batch_size, [this] { return agree_to_stop(); });
}

bool Trainer::end_epoch() {
  EpochRecord record{.epoch = state_.epoch + 1,
                     .step = state_.step,
                     .lr = state_.last_lr,
                     .train = state_.epoch_sums.mean()};
  const bool has_validation = task_->validation() != nullptr;
  if (has_validation && record.epoch % config_.validation.every == 0) {
    record.validation = validate();
    if (!record.validation) {
      return false;
    }
    if (metric_) {
      record.validation_sdr = metric_->values();
    }
    write_epoch_line(validation_line(record.step, record.epoch, *record.validation,
                                     record.validation_sdr, task_->validation()->size(),
                                     epoch_times_[Phase::kValidation]));
  }
  const bool best = (!has_validation || record.validation) && observe(record);
  require_equal_results(ctx_, ranks_, model_.weights(), snapshot());
  record.seconds = epoch_times_.total();
  state_.history.push_back(record);
  state_.epoch = record.epoch;
  state_.step_in_epoch = 0;
  state_.epoch_sums = {};
  write_epoch_line(epoch_line(record, best, epoch_times_));
  write_epoch_events(record);
  if (best) {
    save_best_model();
  }
  save_checkpoint();
  log_epoch(record, best);
  epoch_times_ = {};
  return true;
}

bool Trainer::observe(const EpochRecord& record) {
  const double loss = record.validation ? record.validation->total : record.train.total;
  const int64_t epochs = record.validation ? config_.validation.every : 1;
  if (!std::isfinite(loss)) {
    log_warning("epoch {}: the loss is not finite, which counts as no progress", record.epoch);
  }
  if (schedule_.observe(loss, epochs)) {
    log_info("no progress: learning rate lowered to {:.4g}", schedule_.state().lr);
  }
  if (!stopping_.observe(loss, record.epoch, record.step, epochs)) {
    return false;
  }
  const ConstTensorView weights = ema_ ? ema_->average() : model_.weights();
  ctx_.stream().copy(best_.view().data(), weights.data(), best_.bytes());
  has_best_ = true;
  return true;
}

void Trainer::log_epoch(const EpochRecord& record, bool best) const {
  std::string times;
  const double total = std::max(epoch_times_.total(), 1e-9);
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i) {
    if (epoch_times_.seconds[i] > 0) {
      times += fmt::format("{}{} {:.0f} %", times.empty() ? "" : ", ", kPhaseNames[i],
                           100 * epoch_times_.seconds[i] / total);
    }
  }
  log_info("epoch {}: loss {}{}{}{}, lr {:.4g}; {}: {}", record.epoch,
           format_number(record.train.total),
           record.validation ? ", validation " + format_number(record.validation->total) : "",
           record.validation_sdr && std::isfinite(mean_of_finite(*record.validation_sdr))
               ? fmt::format(", SDR of chunks {:.2f} dB", mean_of_finite(*record.validation_sdr))
               : "",
           best ? " (best)" : "", record.lr, format_duration(total), times);
}

double Trainer::session_seconds() const {
  return seconds_between(session_begin_, std::chrono::steady_clock::now());
}

}  // namespace stemfabric
