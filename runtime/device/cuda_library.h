// Shared libraries of NVIDIA's that are loaded when they are needed; only in builds with CUDA.
#pragma once

#include <mutex>
#include <string>
#include <utility>

#include "runtime/device/stream.h"

namespace stemfabric::cuda {

struct OpenedLibrary {
  void* handle = nullptr;  // null: it could not be loaded
  std::string reason;      // then why, in the system's words
};
// As the system finds it (LD_LIBRARY_PATH, /etc/ld.so.cache), then where toolkits put it.
OpenedLibrary open_library(const std::string& name);

// To be called after a library put kernels on a stream: faults that show later name `work`, a
// literal such as "cuBLASLt product". With STEMFABRIC_SYNC_LAUNCHES=1 waits for them; then a
// DeviceError that names the right one.
void library_work_queued(const Stream& stream, const char* work);

// One that is loaded when its first function is looked for.
class LazyLibrary {
 public:
  struct Texts {
    std::string file;     // "libcublasLt.so.13"
    std::string title;    // "cuBLASLt"
    std::string purpose;  // "matrix products on a GPU"
    std::string remedy;   // "install CUDA 13's libcublas"
    std::string needs;    // "CUDA 13"
  };
  explicit LazyLibrary(Texts texts) : texts_(std::move(texts)) {}
  // DeviceError that says what to do if there is no such library, or no such function in it. A
  // library that was not found is looked for again.
  void* find(const char* function);

 private:
  Texts texts_;
  std::mutex mutex_;
  void* handle_ = nullptr;
};

}  // namespace stemfabric::cuda
