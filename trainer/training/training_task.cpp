#include "trainer/training/training_task.h"

#include "trainer/training/audio_task.h"
#include "trainer/training/snapshot_task.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {

std::unique_ptr<TrainingTask> make_training_task(const TrainingSetup& setup) {
  return setup.audio ? make_audio_task(setup) : make_snapshot_task(setup);
}

}  // namespace stemfabric
