#include <dlfcn.h>
#include <fmt/core.h>

#include <cstdlib>

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

}  // namespace stemfabric::cuda
