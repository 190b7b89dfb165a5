#include "trainer/device_context.h"

#include <fmt/core.h>

namespace stemfabric {

ExecutionContext device_context(const std::string& device, const std::string& key, int64_t threads,
                                const DeviceSurvey& survey) {
  return ExecutionContext(
      {.device = choose_device(device, key, survey).device, .threads = static_cast<int>(threads)});
}

std::string describe_context(const ExecutionContext& ctx) {
  for (const DeviceInfo& info : list_devices()) {
    if (info.device == ctx.device()) {
      const std::string device = describe_device(info);
      return ctx.is_cpu() ? fmt::format("{}, {} threads", device, ctx.threads().threads()) : device;
    }
  }
  return ctx.device().to_string();
}

}  // namespace stemfabric
