#include "kernels/rotary/rotary.h"

#include <cmath>

#include "kernels/common/dispatch.h"
#include "kernels/common/element.h"
#include "kernels/rotary/rotary_cpu.h"
#include "kernels/rotary/rotary_cuda.h"
#include "runtime/core/check.h"

namespace stemfabric {

void rotary(const ExecutionContext& ctx, const RotaryArgs& args) {
  check_tensor("rotary", "x", args.x, activation_dtype(args.x), {-1, -1, -1, -1});
  SF_CHECK(args.x.dim(3) % 2 == 0, "rotary: the last dimension of x, {}, must be even",
           args.x.dim(3));
  SF_CHECK(args.x.stride(3) == 1, "rotary: the last stride of x is {}; it must be 1",
           args.x.stride(3));
  SF_CHECK(std::isfinite(args.base) && args.base > 0, "rotary: base {} must be positive",
           args.base);
  SF_DISPATCH(ctx, rotary, args);
}

}  // namespace stemfabric
