// What the trainer writes: checkpoints, best model, final files.
#include <fmt/core.h>

#include <limits>

#include "kernels/reduction/reduction.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "runtime/memory/host_access.h"
#include "trainer/export/keras_h5.h"
#include "trainer/model/weights_file.h"
#include "trainer/report/training_html.h"
#include "trainer/training/ranks.h"
#include "trainer/training/run_outputs.h"
#include "trainer/training/trainer.h"
#include "trainer/version.h"

namespace stemfabric {

TrainingState Trainer::snapshot() const {
  TrainingState state = state_;
  state.optimizer_steps = optimizer_.steps(ctx_);
  state.schedule = schedule_.state();
  state.early_stopping = stopping_.state();
  if (writes()) {
    state.metrics_bytes = metrics_->bytes();
    state.epoch_metrics_bytes = epoch_metrics_->bytes();
  }
  state.seconds = state_.seconds + session_seconds();
  return state;
}

void Trainer::save_checkpoint() {
  checkpointed_step_ = state_.step;
  if (!writes()) {
    return;
  }
  const PhaseScope scope(epoch_times_, Phase::kCheckpoint);
  metrics_->sync();
  epoch_metrics_->sync();
  write_checkpoint(ctx_, directory_->checkpoints(), identity_, snapshot(), model_.parameters(),
                   {.weights = model_.weights(),
                    .first_moment = optimizer_.first_moment(),
                    .second_moment = optimizer_.second_moment(),
                    .ema = ema_ ? ema_->average() : TensorView(),
                    .best = has_best_ ? best_.view() : TensorView()},
                   setup_.statistics, setup_.units);
  prune_checkpoints(directory_->checkpoints(), config_.training.keep_checkpoints);
}

void Trainer::save_best_model() {
  if (!writes()) {
    return;
  }
  const PhaseScope scope(epoch_times_, Phase::kCheckpoint);
  write_best_model(directory_->best_model(), setup_, identity_, model_.parameters(),
                   HostView(ctx_, best_.view()).view(), stopping_.state());
}

TrainingResult Trainer::partial_result() const {
  TrainingResult result;
  result.end = TrainingResult::End::kInterrupted;
  result.steps = state_.step;
  result.epochs = state_.epoch;
  result.skipped_steps = state_.skipped_steps;
  result.train_loss = state_.step_in_epoch > 0 || state_.history.empty()
                          ? state_.epoch_sums.mean().total
                          : state_.history.back().train.total;
  result.seconds = state_.seconds + session_seconds();
  return result;
}

std::string Trainer::signal_of_any_rank() {
  const char* mine = signals_.received();
  for (std::string& signal : ranks_.all_gather(mine != nullptr ? mine : "", "what stops them")) {
    if (!signal.empty()) {
      return signal;
    }
  }
  return {};
}

TrainingResult Trainer::interrupted() {
  progress_ = nullptr;
  const std::string signal = signal_of_any_rank();
  if (checkpointed_step_ != state_.step) {
    save_checkpoint();
  }
  log_info("stopped{}{} after step {}; everything is saved, the same command goes on from here",
           signal.empty() ? "" : " by ", signal, state_.step);
  TrainingResult result = partial_result();
  try_write_report(fmt::format("stopped after step {}; the same command goes on", state_.step),
                   result);
  return result;
}

void Trainer::write_report(const std::string& end, const TrainingResult& result,
                           const FinalModel* model) {
  const EarlyStopping::State best = stopping_.state();
  const EpochRecord* last = state_.history.empty() ? nullptr : &state_.history.back();
  TrainingReport report{
      .run_folder = directory_->root(),
      .timestamp = utc_now(),
      .end = end,
      .finished = model != nullptr,
      .steps = result.steps,
      .epochs = result.epochs,
      .parameters = model_.parameters().parameter_count(),
      .seconds = result.seconds,
      .train_loss = result.train_loss,
      .validation_loss = result.validation_loss,
      .best_epoch = best.best_epoch,
      .train_samples = task_->train().size(),
      .validation_samples = task_->validation() != nullptr ? task_->validation()->size() : 0,
      .data_folder = setup_.data.root.string(),
      .data_hash = setup_.data.hash,
      .seed = config_.training.seed,
      .config_yaml = config_to_yaml(effective_, true)};
  if (model != nullptr) {
    report.weights = model->weights;
    report.weights_sha256 = model->sha256;
  } else if (last != nullptr && last->validation) {
    report.validation_loss = last->validation->total;
  }
  write_training_html(directory_->report(), report);
}

void Trainer::try_write_report(const std::string& end, const TrainingResult& result) {
  if (writes()) {
    try {
      write_report(end, result, nullptr);
    } catch (const IoError& error) {
      log_warning("there is no report of this run: {}", error.what());
    }
  }
  ranks_.barrier("report of the run");
}

// Best weights of a run that went through its epochs; a run of exactly num_steps steps gives the
// weights after them.
std::string Trainer::take_final_weights(TrainingResult::End end) {
  const TensorView weights = model_.weights();
  if (end != TrainingResult::End::kSteps && has_best_ && config_.training.patience > 0) {
    ctx_.stream().copy(weights.data(), best_.view().data(), weights.bytes());
    return fmt::format("best (epoch {})", stopping_.state().best_epoch);
  }
  if (ema_) {
    ctx_.stream().copy(weights.data(), ema_->average().data(), weights.bytes());
    return "last (moving average)";
  }
  return "last";
}

std::optional<double> Trainer::final_validation_loss(const std::string& which) {
  if (task_->validation() == nullptr) {
    return std::nullopt;
  }
  if (which.starts_with("best")) {
    return stopping_.state().best;
  }
  if (!state_.history.empty() && state_.history.back().step == state_.step &&
      state_.history.back().validation) {
    return state_.history.back().validation->total;
  }
  // A last look that later training does not see: a longer run of the same configuration goes on
  // from the checkpoint before it.
  const auto loss = dataset_loss(ctx_, ranks_, model_, *objective_, *stage_, metric_.get(),
                                 *task_->validation(), plan_.batch_size, [] { return false; });
  const std::optional<StemValues> sdr = metric_ ? std::optional(metric_->values()) : std::nullopt;
  write_epoch_line(
      validation_line(state_.step, state_.epoch + 1, *loss, sdr, task_->validation()->size(), 0));
  return loss->total;
}

// Returns why there is no such file, if there is none.
std::string Trainer::write_h5_model(const float* weights) {
  const std::filesystem::path path = directory_->root() / "final_model.h5";
  if (const auto obstacle = keras_h5_obstacle(setup_.model)) {
    std::filesystem::remove(path);  // of an earlier run
    log_warning("no final_model.h5: {}", *obstacle);
    return *obstacle;
  }
  write_keras_h5(path, setup_.model, model_.parameters(), weights, setup_.statistics);
  return {};
}

// No reader takes weights that are not finite; they come from a last step that overflowed.
void Trainer::require_finite_weights() {
  const SumSquares squares = sum_squares(ctx_, model_.weights());
  if (squares.non_finite == 0) {
    return;
  }
  try_write_report(fmt::format("diverged: weights not finite after step {}", state_.step),
                   partial_result());
  on_every_rank(ranks_, [&] {  // weights are the same on all
    throw NumericError(
        "the training diverged: after step {} {} weights are not finite, first in {}; no final "
        "model was written; lower training.lr or set training.grad_clip",
        state_.step, squares.non_finite,
        parameter_at(model_.parameters(), squares.first_non_finite));
  });
}

TrainingResult Trainer::finish(TrainingResult::End end) {
  if (checkpointed_step_ != state_.step) {
    save_checkpoint();
  }
  TrainingResult result;
  result.end = end;
  result.steps = state_.step;
  result.epochs = state_.epoch;
  result.skipped_steps = state_.skipped_steps;
  result.train_loss = state_.step_in_epoch > 0 || state_.history.empty()
                          ? state_.epoch_sums.mean().total
                          : state_.history.back().train.total;
  const std::string which = take_final_weights(end);
  require_finite_weights();
  result.validation_loss = final_validation_loss(which);
  result.seconds = snapshot().seconds;
  if (writes()) {
    write_final(result, which);
  }
  ranks_.barrier("end of the run");
  log_info("finished ({}) after {} steps, {} epochs, {}; {} weights in {}", end_name(end),
           result.steps, result.epochs, format_duration(result.seconds), which,
           result.final_model.string());
  return result;
}

void Trainer::write_final(TrainingResult& result, const std::string& which) {
  result.final_model = directory_->final_model();
  const std::vector<float> weights =
      setup_.units.leave(model_.parameters(), HostView(ctx_, model_.weights()).as<float>());
  const std::string hash = write_weights(result.final_model, setup_.model, model_.parameters(),
                                         weights.data(), setup_.statistics,
                                         {{"step", std::to_string(state_.step)},
                                          {"weights", which},
                                          {"seed", std::to_string(config_.training.seed)},
                                          {"data_hash", setup_.data.hash},
                                          {"code_revision", std::string(code_revision())}});
  const FinalModel model{.path = result.final_model,
                         .sha256 = hash,
                         .weights = which,
                         .h5_obstacle = write_h5_model(weights.data())};
  write_history(directory_->root() / "training_history.json", state_.history);
  write_summary(directory_->root() / "training_summary.json",
                {.config = loaded_,
                 .identity = identity_,
                 .setup = setup_,
                 .state = snapshot(),
                 .result = result,
                 .model = model,
                 .parameters = model_.parameters().parameter_count()});
  write_report(fmt::format("finished ({})", end_name(result.end)), result, &model);
  metrics_->sync();
  epoch_metrics_->sync();
}

}  // namespace stemfabric
