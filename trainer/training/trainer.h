// The training loop with all that it carries from step to step. Used through run_training().
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "runtime/collectives/device_collectives.h"
#include "runtime/core/progress.h"
#include "trainer/report/tensorboard.h"
#include "trainer/training/checkpoint.h"
#include "trainer/training/metrics_log.h"
#include "trainer/training/prefetch.h"
#include "trainer/training/run_directory.h"
#include "trainer/training/run_outputs.h"
#include "trainer/training/stop_signal.h"
#include "trainer/training/train_step.h"
#include "trainer/training/training.h"
#include "trainer/training/training_setup.h"
#include "trainer/training/training_task.h"
#include "trainer/training/validation.h"

namespace stemfabric {

class Trainer {
 public:
  Trainer(const LoadedConfig& config, const TrainOptions& options, TrainingSetup setup,
          ExecutionContext ctx, Collectives& ranks, StopSignalGuard& signals);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  TrainingResult run();
  TrainingResult dry_run();

 private:
  TrainingResult train();
  void leave_devices();  // in the end; no step may follow
  // Starting
  void start();
  void preflight();
  void set_statistics();
  // On rank 0, which alone reads and writes the run folder:
  std::optional<Checkpoint> open_run_folder();
  void open_logs();
  void restore(const Checkpoint& checkpoint);
  // All ranks get what rank 0 restored, if it did.
  void share_restored(bool restored);
  void take_position();  // of state_, by optimiser, schedule and early stopping
  bool is_own(const Checkpoint& checkpoint) const;  // lies in this run's folder
  void start_prefetch();
  uint64_t seed() const { return static_cast<uint64_t>(config_.training.seed); }

  // Going on
  // By a signal or the caller, of this process; of several ranks: as all know from the last step.
  bool stop_requested() const;
  bool agree_to_stop();  // asks all ranks
  bool stop_wanted_here() const { return stop_by_caller_ || signals_.received() != nullptr; }
  bool writes() const { return ranks_.first(); }  // the run folder
  void take_step();
  void launch_step();
  void collect_step();  // the step launched first, with all that follows from its result
  void collect_all();
  StepRecord read_step();  // its result alone
  // Steps launched, in all and in this epoch; state_ counts those that were read.
  int64_t launched() const { return state_.step + static_cast<int64_t>(in_flight_.size()); }
  int64_t launched_in_epoch() const {
    return state_.step_in_epoch + static_cast<int64_t>(in_flight_.size());
  }
  void note_skipped(StepRecord& record, const std::string& where);
  // False if a signal came during validation; the epoch then ends after resuming.
  bool end_epoch();
  std::optional<LossValues> validate();
  bool observe(const EpochRecord& record);  // true: best so far
  void write_step(const StepRecord& record);
  void write_epoch_line(const std::string& line);
  void write_epoch_events(const EpochRecord& record);
  void log_epoch(const EpochRecord& record, bool best) const;

  // Writing (trainer_save.cpp); every step that was launched was read then.
  TrainingState snapshot() const;
  void save_checkpoint();
  void save_best_model();
  std::string signal_of_any_rank();  // its name, also where this rank received none; "" if none did
  TrainingResult interrupted();
  TrainingResult partial_result() const;  // of a run that has not come to its end
  TrainingResult finish(TrainingResult::End end);
  std::string take_final_weights(TrainingResult::End end);
  std::optional<double> final_validation_loss(const std::string& which);
  void require_finite_weights();
  void write_final(TrainingResult& result, const std::string& which);
  std::string write_h5_model(const float* weights);
  void write_report(const std::string& end, const TrainingResult& result, const FinalModel* model);
  // For a run that does not end well: problems with the report are only logged. The other ranks
  // wait.
  void try_write_report(const std::string& end, const TrainingResult& result);
  double session_seconds() const;

  const LoadedConfig& loaded_;
  const Config& config_;
  const TrainOptions& options_;
  TrainingSetup setup_;
  std::unique_ptr<TrainingTask> task_;
  StepPlan plan_;
  int64_t max_epochs_;
  int64_t total_steps_;
  LoadedConfig effective_;  // what the run really uses: config.yaml, checkpoints and reports say it
  RunIdentity identity_;
  ExecutionContext ctx_;
  Collectives& ranks_;
  std::unique_ptr<DeviceCollectives> devices_;  // of several ranks on GPUs
  Separator model_;
  Optimizer optimizer_;
  std::unique_ptr<Ema> ema_;
  std::unique_ptr<StemObjective> objective_;
  std::unique_ptr<OutputMetric> metric_;  // null: a validation measures the loss alone
  std::unique_ptr<BatchStage> stage_;
  std::unique_ptr<Prefetcher> batches_;
  std::unique_ptr<TrainStep> step_;  // goes before the batches that it may still read
  struct InFlight {
    StepRecord record;
    std::vector<const SampleBatch*> batches;
  };
  std::deque<InFlight> in_flight_;
  Tensor best_;  // weights of the best epoch, if has_best_
  bool has_best_ = false;
  Schedule schedule_;
  EarlyStopping stopping_;
  TrainingState state_;
  PhaseTimes epoch_times_;
  // These are there on rank 0 alone.
  std::optional<RunDirectory> directory_;
  std::unique_ptr<MetricsLog> metrics_;
  std::unique_ptr<MetricsLog> epoch_metrics_;
  std::unique_ptr<TensorBoardWriter> events_;  // if logging.tensorboard
  StopSignalGuard& signals_;
  Progress* progress_ = nullptr;
  bool stop_by_caller_ = false;
  bool stop_agreed_ = false;  // of several ranks
  int64_t checkpointed_step_ = -1;
  int64_t session_first_step_ = 0;
  std::chrono::steady_clock::time_point session_begin_;
};

}  // namespace stemfabric
