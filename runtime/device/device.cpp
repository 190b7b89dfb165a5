#include "runtime/device/device.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "runtime/device/device_cuda.h"

namespace stemfabric {
namespace {

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      const auto colon = line.find(": ");
      return colon == std::string::npos ? "CPU" : line.substr(colon + 2);
    }
  }
  return "CPU";
}

std::string simd_level() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return "AVX-512";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return "AVX2";
  }
  return "SSE2";
#else
  return "generic";
#endif
}

// Cores granted by a version-2 cgroup quota, or a huge number.
int cgroup_cores() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0;
  double period = 0;
  if (file >> quota >> period && period > 0 && quota > 0) {
    return std::max(1, static_cast<int>(std::lround(quota / period)));
  }
  return 1 << 20;
}

}  // namespace

std::string Device::to_string() const {
  return kind == DeviceKind::kCpu ? "cpu" : "cuda:" + std::to_string(index);
}

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::max(1, std::min(cores, cgroup_cores()));
}

DeviceInfo cpu_info() {
  const int64_t memory =
      static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<int64_t>(sysconf(_SC_PAGESIZE));
  return {.device = {},
          .name = cpu_name(),
          .capability = simd_level(),
          .memory_bytes = memory,
          .processors = available_cores()};
}

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices = {cpu_info()};
#if SF_HAVE_CUDA
  cuda::append_devices(devices);
#endif
  return devices;
}

std::string cuda_unavailable_reason() {
#if SF_HAVE_CUDA
  return cuda::unavailable_reason();
#else
  return "this build has no CUDA (configure with -DSTEMFABRIC_CUDA=ON where nvcc is installed)";
#endif
}

}  // namespace stemfabric
