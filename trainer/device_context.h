// The execution context that a configuration asks for.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/device/device_choice.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

// `device` is the value of `key`: auto, cuda or cpu (see choose_device; cpu looks for no GPU);
// threads 0: all. A GPU is warned about: no release has run on one yet.
ExecutionContext device_context(const std::string& device, const std::string& key, int64_t threads);
// On a device that was chosen.
ExecutionContext device_context(const Device& chosen, const std::string& key, int64_t threads);

// For the log: "cpu: AMD EPYC, AVX2, 4 cores, 15.6 GiB, 4 threads".
std::string describe_context(const ExecutionContext& ctx);

}  // namespace stemfabric
