#include "runtime/collectives/nccl_functions.h"

#include "runtime/core/check.h"

#if !SF_HAVE_NCCL
namespace stemfabric {
namespace {

[[noreturn]] void no_nccl() {
  throw DeviceError(
      "several ranks on GPUs need NCCL, which this build does not have: build with "
      "-DSTEMFABRIC_NCCL=ON where nccl.h and libnccl are installed, or use --device cpu");
}

}  // namespace

const NcclFunctions& load_nccl() { no_nccl(); }
std::string nccl_version() { no_nccl(); }

}  // namespace stemfabric
#endif
