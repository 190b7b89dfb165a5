#include "runtime/core/library_versions.h"

#include <fmt/core.h>
#include <hdf5.h>
#include <openssl/crypto.h>
#include <spdlog/version.h>

#include <nlohmann/json.hpp>

namespace stemfabric {

std::vector<LibraryVersion> runtime_library_versions() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  const bool hdf5 = H5get_libversion(&major, &minor, &release) >= 0;
  return {
      {"HDF5", hdf5 ? fmt::format("{}.{}.{}", major, minor, release) : "unusable"},
      {"OpenSSL", OpenSSL_version(OPENSSL_VERSION_STRING)},
      {"fmt",
       fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
      {"spdlog", fmt::format("{}.{}.{}", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
      {"nlohmann/json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR,
                                    NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
  };
}

}  // namespace stemfabric
