// Which device "auto", "cuda" and "cpu" stand for.
#pragma once

#include <string>
#include <vector>

#include "runtime/device/device.h"

namespace stemfabric {

// What there is to choose from; tests make up their own.
struct DeviceSurvey {
  std::vector<DeviceInfo> devices;  // the CPU first, then every GPU
  std::string no_gpu_because;       // if there is none: the reason
  double least_capability = 0;      // of the GPUs that this build has kernels for: 8.0
};
DeviceSurvey survey_devices();

// The device that `wanted` stands for; auto takes the first GPU that this build has kernels for, if
// there is one. DeviceError that names `key`, and for each GPU why it cannot be used.
// `local_rank`: of several ranks on a machine each takes the GPU of its own number; where a rank
// sees a single one, that one, since a launcher may show each rank its own.
DeviceInfo choose_device(const std::string& wanted, const std::string& key,
                         const DeviceSurvey& survey, int local_rank = 0);

// "cuda:0: NVIDIA H200, compute capability 9.0, 132 multiprocessors, 140.4 GiB"
std::string describe_device(const DeviceInfo& info);

}  // namespace stemfabric
