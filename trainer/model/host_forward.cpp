#include "trainer/model/host_forward.h"

#include "runtime/memory/host_access.h"

namespace stemfabric {

ConstTensorView HostForward::on_device(Tensor& memory, const ConstTensorView& host) {
  if (!host) {
    return {};
  }
  const ExecutionContext& ctx = model_.context();
  if (memory.bytes() < host.bytes()) {
    memory = Tensor(host.shape(), host.dtype(), ctx.resource(), "batch");
  }
  ctx.stream().copy(memory.view().data(), host.data(), host.bytes());
  return {memory.view().data(), host.dtype(), host.shape()};
}

ConstTensorView HostForward::operator()(const ConstTensorView& inputs,
                                        const ConstTensorView& mask) {
  const ExecutionContext& ctx = model_.context();
  if (ctx.is_cpu()) {
    return model_.forward(inputs, mask, false, {});
  }
  const ConstTensorView outputs =
      model_.forward(on_device(inputs_, inputs), on_device(mask_, mask), false, {});
  if (outputs_.bytes() < outputs.bytes()) {
    outputs_ = Tensor(outputs.shape(), DType::kF32, ctx.staging(), "outputs");
  }
  copy_to_host(ctx, outputs_.view().data(), outputs);
  return {outputs_.view().data(), DType::kF32, outputs.shape()};
}

}  // namespace stemfabric
