// One optimiser step: forward, loss and backward of its micro-batches, clipping, update. The device
// decides whether the step changes anything (kernels/step_control), so the host can launch the next
// one before it has read what came of this one.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/collectives/device_collectives.h"
#include "runtime/core/check.h"
#include "trainer/model/separator.h"
#include "trainer/optim/ema.h"
#include "trainer/optim/optimizer.h"
#include "trainer/training/batch_stage.h"
#include "trainer/training/gradient_reducer.h"
#include "trainer/training/phase_times.h"
#include "trainer/training/stem_objective.h"

namespace stemfabric {

struct StepResult {
  LossValues loss;  // before the update
  StemValues weighted{};
  StemValues counts{};
  double grad_norm = 0;  // before clipping
  int64_t samples = 0;
  bool stop = false;  // a rank was asked to stop before this step
  // Empty, or where the first value is that is not finite: the step changed nothing then.
  std::string non_finite;
};

// How many steps the host launches before it reads the result of the one before: none on the CPU,
// where a step is done when it was launched.
inline std::size_t steps_ahead(const Device& device) {
  return device.kind == DeviceKind::kCpu ? 0 : 1;
}

class TrainStep {
 public:
  struct Options {
    double grad_clip = 0;  // 0: none
    uint64_t seed = 0;     // of dropout
    // Where the stream can capture: a kind of step (sizes of its micro-batches) that was made
    // becomes a graph, and those after it are launches of that.
    bool graph = true;
    // With whom the step is shared: each rank has its own samples of it, and all make the same
    // update. Null: with no one.
    Collectives* ranks = nullptr;
    // On a device: what adds up there, of the same ranks. Where it is given the step is shared, if
    // only with oneself.
    DeviceCollectives* devices = nullptr;
    GradientReducer::Options gradients = {};  // how they are added up
  };
  // `ema` may be nullptr. All must outlive the step.
  TrainStep(const ExecutionContext& ctx, const Options& options, Separator& model,
            Optimizer& optimizer, Ema* ema, StemObjective& objective, BatchStage& stage);
  ~TrainStep();  // waits for the steps that were launched
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;

  // Queues a step on the stream and waits for nothing. `step` counts from 0. The micro-batches
  // share one denominator per stem, so that the result is that of one large batch; they must be
  // kept until the step is collected. Times are added to `times`. `stop`: this rank was asked to
  // stop, which the others learn with the step's result.
  void launch(std::span<const SampleBatch* const> micro_batches, int64_t step, double lr,
              PhaseTimes& times, bool stop = false);
  // Waits for the step that was launched first of those that were not collected.
  StepResult collect(PhaseTimes& times);
  // Steps that were launched and not collected: 2 at most.
  std::size_t in_flight() const { return launched_ - collected_; }
  // Both at once.
  StepResult run(std::span<const SampleBatch* const> micro_batches, int64_t step, double lr,
                 PhaseTimes& times);

 private:
  static constexpr std::size_t kRecords = 2;
  // What the host writes and reads of a step, in memory that is copied to and from the device.
  struct Record {
    double lr;
    double shared[2];  // samples of the step and whether to stop: this rank's, then all ranks'
    StemSums sums;
    double squares[3];
    double gate[3];
  };
  struct Launched {
    std::unique_ptr<Event> done;
    int64_t step = 0;
    int64_t place = 0;  // of its sums on devices
  };
  // Steps of one kind, which a graph can be of.
  using Places = std::vector<std::uintptr_t>;
  struct Kind {
    std::unique_ptr<Graph> graph;  // null: such a step was made once
    Places where;                  // sizes and addresses of its micro-batches
  };
  Record& record(std::size_t step) const {
    return static_cast<Record*>(records_.data())[step % kRecords];
  }
  static constexpr std::size_t kMostGraphs = 8;
  int64_t layers() const { return std::max<int64_t>(1, model_.config().depth); }  // with dropout
  // All that a step has of its own, copied to the device.
  std::vector<StagedBatch> stage(std::span<const SampleBatch* const> micro_batches, int64_t step,
                                 double lr);
  // Adds up over ranks the denominators, the number of samples and whether to stop.
  void share_counts(int64_t step, PhaseTimes& times);
  void backward(bool any_samples, bool last, PhaseTimes& times);
  void share_gradients(PhaseTimes& times);
  bool shared() const {
    return options_.devices != nullptr || (options_.ranks != nullptr && !options_.ranks->alone());
  }
  TensorView of_the_step() { return shared_.view().slice(0, kStemCount, 2); }  // Record::shared
  void queue(std::span<const SampleBatch* const> micro_batches, int64_t step, double lr,
             PhaseTimes& times);
  void wait(const Launched& launched);  // with the time limit, if there are sums of devices in it
  void wait_for_devices();              // that take part in the steps that are in flight
  // Sums on devices have failed: stops them, so that the stream comes to its end.
  void give_up_devices(const Error& error);
  void accumulate(std::span<const StagedBatch> micro_batches, int64_t step, PhaseTimes& times);
  void update(PhaseTimes& times);
  void replay(std::span<const StagedBatch> micro_batches, int64_t step, PhaseTimes& times,
              const std::function<void()>& work);
  // What there is for the step that comes: nothing, one of its kind that was made once, its graph.
  // On several devices the least of what the ranks have.
  enum class Known : uint8_t { kNothing, kMadeOnce, kGraph };
  Known look_up(const Places& kind, const Places& where, int64_t step);
  bool on_any_rank(bool here, const char* what, int64_t step);

  const ExecutionContext& ctx_;
  Options options_;
  Separator& model_;
  Optimizer& optimizer_;
  Ema* ema_;
  StemObjective& objective_;
  BatchStage& stage_;
  Tensor squares_;  // [3] f64: sum_squares_into of the gradient
  Buffer records_;
  Buffer keys_, host_keys_;  // dropout_keys of the step, on a device; of each record
  std::map<Places, Kind> kinds_;
  int64_t workspace_generation_ = 0;  // that the graphs are of
  bool routine_ = false;              // the last step was the launch of a graph
  bool given_up_ = false;             // the devices' sums
  // If shared:
  Tensor shared_;  // [8] f64: the counts and Record::shared, to be added up
  std::unique_ptr<StepSums> sums_;
  std::optional<GradientReducer> reducer_;
  std::array<Launched, kRecords> launches_;
  std::size_t launched_ = 0;
  std::size_t collected_ = 0;
};

// The parameter that holds element `index` of the block; "padding" between parameters.
std::string parameter_at(const ParameterTable& table, int64_t index);

}  // namespace stemfabric
