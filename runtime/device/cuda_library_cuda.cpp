#include <dlfcn.h>
#include <fmt/core.h>

#include <cstdlib>

#include "runtime/core/check.h"
#include "runtime/device/cuda_library.h"

namespace stemfabric::cuda {

OpenedLibrary open_library(const std::string& name) {
  constexpr int kFlags = RTLD_NOW | RTLD_LOCAL;
  OpenedLibrary opened;
  opened.handle = ::dlopen(name.c_str(), kFlags);
  if (opened.handle == nullptr) {
    opened.reason = ::dlerror();
  }
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    const char* home = std::getenv(variable);
    if (home != nullptr && opened.handle == nullptr) {
      opened.handle = ::dlopen(fmt::format("{}/lib64/{}", home, name).c_str(), kFlags);
    }
  }
  if (opened.handle == nullptr) {
    opened.handle = ::dlopen(("/usr/local/cuda/lib64/" + name).c_str(), kFlags);
  }
  return opened;
}

void* LazyLibrary::find(const char* function) {
  const std::lock_guard lock(mutex_);
  if (handle_ == nullptr) {
    const OpenedLibrary opened = open_library(texts_.file);
    if (opened.handle == nullptr) {
      throw DeviceError(
          "{} need {}, which could not be loaded ({}); {}, or put the folder of {} on "
          "LD_LIBRARY_PATH",
          texts_.purpose, texts_.title, opened.reason, texts_.remedy, texts_.file);
    }
    handle_ = opened.handle;
  }
  void* found = ::dlsym(handle_, function);
  if (found == nullptr) {
    throw DeviceError("the {} that is installed has no function {}; this build needs {}",
                      texts_.title, function, texts_.needs);
  }
  return found;
}

}  // namespace stemfabric::cuda
