// The sums over ranks that a training step consists of, each with a name: on the CPU in host
// memory, on devices where they lie.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/collectives/device_collectives.h"

namespace stemfabric {

class StepSums {
 public:
  virtual ~StepSums() = default;
  StepSums(const StepSums&) = delete;
  StepSums& operator=(const StepSums&) = delete;

  // The sums of step `step`, which counts from 0; nothing is under way then.
  virtual void begin(int64_t step) = 0;
  // data = Σ over ranks of data, contiguous, left alone until join(). In its name {} stands for the
  // step.
  virtual void start(const TensorView& data, const std::string& what) = 0;
  // What is done from now on finds the sums: on the CPU it waits for them; on a device only the
  // stream does. A CollectiveError leaves them undefined.
  virtual void join() = 0;

 protected:
  StepSums() = default;
};

// Through `devices`, or null: through `ranks`. Both must outlive it.
std::unique_ptr<StepSums> make_step_sums(Collectives& ranks, DeviceCollectives* devices);

}  // namespace stemfabric
