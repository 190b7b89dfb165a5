#include "runtime/memory/host_access.h"

namespace stemfabric {

HostView::HostView(const ExecutionContext& ctx, const ConstTensorView& tensor) : view_(tensor) {
  if (!ctx.is_cpu() && tensor) {
    copy_ = Tensor(tensor.shape(), tensor.dtype(), host_resource(), "host copy");
    copy_to_host(ctx, copy_.view().data(), tensor);
    view_ = copy_.view();
  }
}

void copy_from_host(const ExecutionContext& ctx, const TensorView& to, const void* from) {
  SF_CHECK(to.contiguous(), "a copy from the host to a strided tensor {}", to.shape().to_string());
  ctx.stream().copy(to.data(), from, to.bytes());
  ctx.stream().synchronize();  // `from` may be gone when we return
}

void copy_to_host(const ExecutionContext& ctx, void* to, const ConstTensorView& from) {
  SF_CHECK(from.contiguous(), "a copy to the host of a strided tensor {}",
           from.shape().to_string());
  ctx.stream().copy(to, from.data(), from.bytes());
  ctx.stream().synchronize();
}

}  // namespace stemfabric
