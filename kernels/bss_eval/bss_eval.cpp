#include "kernels/bss_eval/bss_eval.h"

#include "kernels/bss_eval/bss_eval_cpu.h"
#include "kernels/bss_eval/bss_eval_cuda.h"
#include "kernels/common/dispatch.h"

namespace stemfabric {
namespace {

constexpr const char* kOp = "bss_eval";

void check_output(const char* name, const TensorView& view, DType dtype,
                  std::initializer_list<int64_t> shape) {
  if (view) {
    check_tensor(kOp, name, view, dtype, shape);
    SF_CHECK(view.contiguous(), "{}: {} must be contiguous", kOp, name);
  }
}

void check_signals(const char* name, const ConstTensorView& view,
                   std::initializer_list<int64_t> shape) {
  check_tensor(kOp, name, view, DType::kF32, shape);
  SF_CHECK(view.dim(2) <= 1 || view.stride(2) == 1, "{}: the last stride of {} is {}, not 1", kOp,
           name, view.stride(2));
}

}  // namespace

int64_t bss_frame_count(int64_t length, int64_t window, int64_t hop) {
  return window < length ? (length - window + hop) / hop : 1;
}

void bss_eval(const ExecutionContext& ctx, const BssEvalArgs& args) {
  check_signals("references", args.references, {-1, -1, -1});
  const Shape& shape = args.references.shape();
  check_signals("estimates", args.estimates, {shape[0], shape[1], shape[2]});
  SF_CHECK(shape.elements() > 0 && shape[0] * shape[1] <= kMaxBssSignals,
           "{}: references has shape {}; it must hold 1 to {} signals of at least one sample", kOp,
           shape.to_string(), kMaxBssSignals);
  SF_CHECK(args.window > 0 && args.hop > 0, "{}: window {} and hop {} must be positive", kOp,
           args.window, args.hop);
  SF_CHECK(args.taps > 0 && args.taps <= kBssTaps, "{}: taps is {}, it must be 1 to {}", kOp,
           args.taps, kBssTaps);
  const int64_t frames = bss_frame_count(shape[2], args.window, args.hop);
  check_output("frames", args.frames, DType::kF64, {4, shape[0], frames});
  check_output("whole", args.whole, DType::kF64, {5, shape[0]});
  check_output("silent", args.silent, DType::kU8, {2, shape[0]});
  SF_DISPATCH(ctx, bss_eval, args);
}

}  // namespace stemfabric
