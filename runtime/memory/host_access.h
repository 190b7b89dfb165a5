// Tensors of a context for code on the host. Where the context is the CPU's they are used as they
// are; elsewhere they are copied through host memory, and the calls wait for the stream.
#pragma once

#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {

// What a contiguous tensor holds at this moment: the tensor itself on the CPU, else a copy.
class HostView {
 public:
  HostView(const ExecutionContext& ctx, const ConstTensorView& tensor);
  ConstTensorView view() const { return view_; }
  template <typename T>
  const T* as() const {
    return view_.as<T>();
  }

 private:
  Tensor copy_;
  ConstTensorView view_;
};

// Fills a contiguous tensor with `bytes()` bytes from host memory.
void copy_from_host(const ExecutionContext& ctx, const TensorView& to, const void* from);
// A contiguous tensor's bytes to host memory.
void copy_to_host(const ExecutionContext& ctx, void* to, const ConstTensorView& from);

// write(view): a view of host memory that becomes what the tensor holds. Its contents are undefined
// at first.
template <typename Write>
void write_on_host(const ExecutionContext& ctx, const TensorView& tensor, Write&& write) {
  if (ctx.is_cpu()) {
    write(tensor);
    return;
  }
  Tensor staging(tensor.shape(), tensor.dtype(), host_resource(), "host copy");
  write(staging.view());
  copy_from_host(ctx, tensor, staging.view().data());
}

}  // namespace stemfabric
