// The training step that train_step_bench times: forward, loss with gradient, backward, gradient
// norm, Adam, on a batch that lies on the device; and how it is timed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "trainer/model/separator.h"

namespace stemfabric::benchmarks {

class TimedStep {
 public:
  struct Options {
    int64_t batch = 8;
    int64_t tokens = 256;
    DType precision = DType::kF32;
    bool cudnn = false;
  };
  TimedStep(const ExecutionContext& ctx, const ModelConfig& model, const Options& options);

  // Queues one step; nothing of it is waited for.
  void run();
  // Of the last step; these wait for it.
  double loss() const;
  double gradient_norm() const;  // NaN: see step_control.h
  const Separator& model() const { return model_; }

 private:
  // Where in control_.
  enum Control : int64_t { kSquares = 0, kGate = 3, kScalars = 6, kLr = 9, kSteps = 10, kControls };

  Tensor device_tensor(const Shape& shape, DType dtype);
  void fill_zero(const TensorView& view) { ctx_.stream().fill(view.data(), 0, view.bytes()); }
  TensorView control(Control first, int64_t count) {
    return {control_.as<double>() + first, Shape{count}};
  }
  TensorView sums(int which);  // count, loss, weighted
  void compute_loss(const ConstTensorView& prediction);

  const ExecutionContext& ctx_;
  Separator model_;
  Shape shape_;  // of the prediction
  Tensor inputs_, targets_, m_, v_, sums_, control_;
  int64_t step_ = 0;
};

struct StepTimes {  // in ms
  double median = 0;
  double least = 0;
  double cpu = 0;  // processor time of the process, a step's share
};
// Of steps that the host queues without waiting for one: between an event after the step before and
// one after it.
StepTimes time_steps(Stream& stream, int64_t steps, const std::function<void()>& run);

// The step as one graph, after it was run at least once: ops choose their algorithms and take their
// memory then. Its dropout, if there is any, is that of the step that was captured. Null where the
// stream cannot capture.
std::unique_ptr<Graph> captured(Stream& stream, TimedStep& step);

}  // namespace stemfabric::benchmarks
