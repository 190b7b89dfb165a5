// The layers of a call with several (linear.h), one by one.
#pragma once

#include "kernels/linear/linear.h"

namespace stemfabric {

// 1 where the factors are matrices.
inline int64_t layer_count(const ConstTensorView& factor) {
  return factor.rank() == 3 ? factor.dim(0) : 1;
}

// How far the tensors of two layers lie apart; 0 where there is one layer, or no tensor.
inline int64_t layer_stride(const ConstTensorView& view, bool several) {
  return several && view ? view.stride(0) : 0;
}

// A tensor without its first dimension.
template <bool kConst>
BasicTensorView<kConst> layer_of(const BasicTensorView<kConst>& view, int64_t layer) {
  if (!view) {
    return {};
  }
  const BasicTensorView<kConst> one = view.slice(0, layer, 1);
  if (view.rank() == 3) {
    return {one.data(), one.dtype(), Shape{one.dim(1), one.dim(2)}, {one.stride(1), one.stride(2)}};
  }
  return {one.data(), one.dtype(), Shape{one.dim(1)}, {one.stride(1)}};
}

inline LinearForwardArgs layer_of(LinearForwardArgs args, int64_t layer) {
  args.x = layer_of(args.x, layer);
  args.kernel = layer_of(args.kernel, layer);
  args.bias = layer_of(args.bias, layer);
  args.row_bias = layer_of(args.row_bias, layer);
  args.y = layer_of(args.y, layer);
  args.pre_activation = layer_of(args.pre_activation, layer);
  return args;
}
inline LinearBackwardInputArgs layer_of(LinearBackwardInputArgs args, int64_t layer) {
  args.dy = layer_of(args.dy, layer);
  args.kernel = layer_of(args.kernel, layer);
  args.dx = layer_of(args.dx, layer);
  args.saved = layer_of(args.saved, layer);
  return args;
}
inline LinearBackwardKernelArgs layer_of(LinearBackwardKernelArgs args, int64_t layer) {
  args.x = layer_of(args.x, layer);
  args.dy = layer_of(args.dy, layer);
  args.dkernel = layer_of(args.dkernel, layer);
  args.dbias = layer_of(args.dbias, layer);
  return args;
}

}  // namespace stemfabric
