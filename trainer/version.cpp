#include "trainer/version.h"

#include <string>

#include "stemfabric_revision.h"  // written by scripts/cmake/WriteRevision.cmake at each build

namespace stemfabric {
namespace {

#if SF_HAVE_CUDA
constexpr std::string_view kCuda = "yes";
#else
constexpr std::string_view kCuda = "no";
#endif
#if SF_HAVE_NCCL
constexpr std::string_view kNccl = "yes";
#else
constexpr std::string_view kNccl = "no";
#endif
#if SF_HAVE_MPI
constexpr std::string_view kMpi = "yes";
#else
constexpr std::string_view kMpi = "no";
#endif

}  // namespace

std::string_view version() { return STEMFABRIC_VERSION; }
std::string_view code_revision() { return STEMFABRIC_REVISION; }

std::string_view version_line() {
  static const std::string line =
      "stemfabric " + std::string(version()) + " (" + std::string(code_revision()) + "; CUDA " +
      std::string(kCuda) + ", NCCL " + std::string(kNccl) + ", MPI " + std::string(kMpi) + ")";
  return line;
}

}  // namespace stemfabric
