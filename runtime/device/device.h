// Devices of this machine. The CPU is one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace stemfabric {

enum class DeviceKind : uint8_t { kCpu, kCuda };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  int index = 0;
  bool operator==(const Device&) const = default;
  std::string to_string() const;  // "cpu", "cuda:0"
};

struct DeviceInfo {
  Device device;
  std::string name;          // "AMD EPYC", "NVIDIA H200"
  std::string capability;    // SIMD level of a CPU, "9.0" of a GPU
  int64_t memory_bytes = 0;  // total
  int processors = 0;        // cores this process may use, or SMs
  std::string id;            // of a GPU: tells it from every other
};

DeviceInfo cpu_info();  // asks no GPU's driver
// The CPU first, then every usable GPU.
std::vector<DeviceInfo> list_devices();
// Why there is no usable GPU ("built without CUDA", the driver's own words); empty if there is one.
std::string cuda_unavailable_reason();
// Cores this process may run on (affinity and cgroup quota counted).
int available_cores();

}  // namespace stemfabric
