#include "kernels/attention/attention_cudnn.h"

#if !SF_HAVE_CUDNN
namespace stemfabric::cuda {

bool cudnn_attention_forward(const ExecutionContext& /*ctx*/,
                             const AttentionForwardArgs& /*args*/) {
  return false;
}
bool cudnn_attention_backward(const ExecutionContext& /*ctx*/,
                              const AttentionBackwardArgs& /*args*/) {
  return false;
}
std::string cudnn_attention_version() { return {}; }

}  // namespace stemfabric::cuda
#endif
