// Versions of the third-party libraries that this layer links.
#pragma once

#include <string>
#include <vector>

namespace stemfabric {

struct LibraryVersion {
  std::string name;
  std::string version;
};

// HDF5 and OpenSSL as found at run time; fmt, spdlog and nlohmann/json as compiled in.
std::vector<LibraryVersion> runtime_library_versions();

}  // namespace stemfabric
