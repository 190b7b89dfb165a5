#include "trainer/training/training_task.h"

#include <algorithm>

#include "trainer/training/audio_task.h"
#include "trainer/training/snapshot_task.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {

std::size_t TrainingTask::batch_bytes(int64_t samples) const {
  const SampleSource* other = validation();
  return std::max(train().batch_bytes(samples), other == nullptr ? 0 : other->batch_bytes(samples));
}

std::unique_ptr<TrainingTask> make_training_task(const TrainingSetup& setup,
                                                 int64_t resident_bytes) {
  return setup.audio ? make_audio_task(setup) : make_snapshot_task(setup, resident_bytes);
}

int64_t resident_limit(const TrainingConfig& config, const Device& device, int64_t available) {
  const bool off = device.kind == DeviceKind::kCpu || config.resident_data != "auto";
  return off || available < 0 ? 0 : available / 4;
}

}  // namespace stemfabric
