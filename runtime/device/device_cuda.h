// CUDA parts of the runtime; defined only in builds with CUDA (SF_HAVE_CUDA).
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device/device.h"

namespace stemfabric {
class Stream;
}

namespace stemfabric::cuda {

void append_devices(std::vector<DeviceInfo>& devices);
std::string unavailable_reason();
// Throws a DeviceError with the call, the device and CUDA's own words if status is not success.
void check(int status, const char* expression, const char* file, int line);
// What every library's check throws: an OutOfMemoryError or a DeviceError.
[[noreturn]] void throw_library_error(const char* library, const std::string& words, int code,
                                      bool out_of_memory, const char* expression, const char* file,
                                      int line);
std::unique_ptr<Stream> make_stream(int device);
// Launches a kernel; see kernels/common/launch.cuh. DeviceError that names it.
void launch(const Stream& stream, const char* name, const void* kernel,
            const std::array<unsigned, 3>& grid, const std::array<unsigned, 3>& block,
            void** arguments, std::size_t dynamic_shared_bytes);

}  // namespace stemfabric::cuda

#define SF_CUDA_CHECK(call) \
  ::stemfabric::cuda::check(static_cast<int>(call), #call, __FILE__, __LINE__)
