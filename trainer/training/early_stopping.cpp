#include "trainer/training/early_stopping.h"

namespace stemfabric {

bool EarlyStopping::observe(double loss, int64_t epoch, int64_t step, int64_t epochs) {
  if (loss < state_.best - min_delta_) {
    state_ = {.best = loss, .best_epoch = epoch, .best_step = step, .epochs_without_progress = 0};
    return true;
  }
  state_.epochs_without_progress += epochs;
  return false;
}

}  // namespace stemfabric
