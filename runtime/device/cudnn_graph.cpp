#include "runtime/device/cudnn_graph.h"

#include "runtime/core/check.h"

#if !SF_HAVE_CUDNN
namespace stemfabric::cuda {

std::string cudnn_version() {
  throw DeviceError(
      "this build has no cuDNN: build with -DSTEMFABRIC_CUDNN=ON where cudnn.h is installed");
}

}  // namespace stemfabric::cuda
#endif
