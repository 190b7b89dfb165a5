// The device and threads of the commands that run a trained model.
#pragma once

#include "runtime/core/check.h"
#include "runtime/device/execution_context.h"
#include "trainer/config/config.h"

namespace stemfabric::cli {

// training.device and training.threads.
inline ExecutionContext inference_context(const Config& config) {
  if (config.training.device == "cuda") {
    throw DeviceError(
        "the model has no CUDA implementation in this build; use training.device cpu");
  }
  return ExecutionContext(
      {.device = Device{}, .threads = static_cast<int>(config.training.threads)});
}

}  // namespace stemfabric::cli
