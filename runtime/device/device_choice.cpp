#include "runtime/device/device_choice.h"

#include <cstdlib>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

double capability_of(const DeviceInfo& gpu) { return std::strtod(gpu.capability.c_str(), nullptr); }

}  // namespace

DeviceSurvey survey_devices() {
  DeviceSurvey survey{.devices = list_devices(), .no_gpu_because = cuda_unavailable_reason()};
#if SF_HAVE_CUDA
  survey.least_capability = SF_LEAST_CUDA_ARCHITECTURE / 10.0;
#endif
  return survey;
}

DeviceInfo choose_device(const std::string& wanted, const std::string& key,
                         const DeviceSurvey& survey, int local_rank) {
  SF_CHECK(!survey.devices.empty() && survey.devices.front().device == Device{},
           "a survey of devices without the CPU");
  if (wanted == "cpu") {
    return survey.devices.front();
  }
  std::string reasons;
  std::vector<DeviceInfo> usable;
  for (const DeviceInfo& info : survey.devices) {
    if (info.device.kind != DeviceKind::kCuda) {
      continue;
    }
    if (capability_of(info) >= survey.least_capability) {
      usable.push_back(info);
      continue;
    }
    reasons += fmt::format(
        "{}{} ({}) has compute capability {}, and the kernels of this build need {:.1f} or higher",
        reasons.empty() ? "" : "; ", info.device.to_string(), info.name, info.capability,
        survey.least_capability);
  }
  if (usable.size() > 1 && static_cast<std::size_t>(local_rank) >= usable.size()) {
    throw DeviceError(
        "{}: {} takes a GPU for each rank, but {} ranks or more were started on this machine, "
        "which "
        "has {} that can be used; start fewer there, or use cpu",
        key, wanted, local_rank + 1, usable.size());
  }
  if (!usable.empty()) {
    return usable[usable.size() == 1 ? 0 : static_cast<std::size_t>(local_rank)];
  }
  if (wanted == "auto") {
    return survey.devices.front();
  }
  SF_CHECK(wanted == "cuda", "the device '{}'", wanted);
  throw DeviceError("{}: cuda cannot be used: {}; use auto or cpu", key,
                    reasons.empty() ? survey.no_gpu_because : reasons);
}

std::string describe_device(const DeviceInfo& info) {
  const double gib = static_cast<double>(info.memory_bytes) / (1 << 30);
  return info.device.kind == DeviceKind::kCpu
             ? fmt::format("cpu: {}, {}, {} cores, {:.1f} GiB", info.name, info.capability,
                           info.processors, gib)
             : fmt::format("{}: {}, compute capability {}, {} multiprocessors, {:.1f} GiB",
                           info.device.to_string(), info.name, info.capability, info.processors,
                           gib);
}

}  // namespace stemfabric
