// Shared libraries of NVIDIA's that are loaded when they are needed; only in builds with CUDA.
#pragma once

#include <string>

namespace stemfabric::cuda {

struct OpenedLibrary {
  void* handle = nullptr;  // null: it could not be loaded
  std::string reason;      // then why, in the system's words
};
// As the system finds it (LD_LIBRARY_PATH, /etc/ld.so.cache), then where toolkits put it.
OpenedLibrary open_library(const std::string& name);

}  // namespace stemfabric::cuda
