#include "trainer/device_context.h"

#include <fmt/core.h>

#include "runtime/core/log.h"

namespace stemfabric {

ExecutionContext device_context(const std::string& device, const std::string& key,
                                int64_t threads) {
  return device_context(
      device == "cpu" ? Device{} : choose_device(device, key, survey_devices()).device, key,
      threads);
}

ExecutionContext device_context(const Device& chosen, const std::string& key, int64_t threads) {
  if (chosen.kind == DeviceKind::kCuda) {
    log_warning(
        "{} is {}: the CUDA path of this version passes its tests on an emulator, but has not been "
        "run on a GPU yet; compare with --device cpu (docs/gpu.md)",
        key, chosen.to_string());
  }
  return ExecutionContext({.device = chosen, .threads = static_cast<int>(threads)});
}

std::string describe_context(const ExecutionContext& ctx) {
  if (ctx.is_cpu()) {
    return fmt::format("{}, {} threads", describe_device(cpu_info()), ctx.threads().threads());
  }
  for (const DeviceInfo& info : list_devices()) {
    if (info.device == ctx.device()) {
      return describe_device(info);
    }
  }
  return ctx.device().to_string();
}

}  // namespace stemfabric
