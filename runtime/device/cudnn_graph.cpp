#include "runtime/device/cudnn_graph.h"

#include "runtime/core/check.h"

#if !SF_HAVE_CUDNN
namespace stemfabric::cuda {

std::string cudnn_version() {
  throw DeviceError(
      "this build has no cuDNN: build with -DSTEMFABRIC_CUDNN=ON where nvcc and cudnn.h of cuDNN "
      "9.8 or newer are "
      "installed");
}

}  // namespace stemfabric::cuda
#endif
