// The device and threads of the commands that run a trained model.
#pragma once

#include "runtime/core/log.h"
#include "trainer/config/config.h"
#include "trainer/device_context.h"

namespace stemfabric::cli {

// inference.device and training.threads. A GPU is named in the log, whoever asked for it.
inline ExecutionContext inference_context(const Config& config) {
  ExecutionContext ctx =
      device_context(config.inference.device, "inference.device", config.training.threads);
  if (!ctx.is_cpu()) {
    log_info("device {}", describe_context(ctx));
  }
  return ctx;
}

}  // namespace stemfabric::cli
