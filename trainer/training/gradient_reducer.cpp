#include "trainer/training/gradient_reducer.h"

#include <fmt/core.h>

#include <algorithm>

#include "kernels/cast/cast.h"
#include "runtime/core/check.h"

namespace stemfabric {

GradientReducer::GradientReducer(const ExecutionContext& ctx, StepSums& sums,
                                 const TensorView& gradients, int64_t kernels,
                                 const Options& options)
    : ctx_(ctx),
      sums_(sums),
      gradients_(gradients),
      kernels_(kernels),
      bucket_elements_(std::max<int64_t>(
          1, options.bucket_bytes / static_cast<int64_t>(dtype_size(options.dtype)))),
      reduced_from_(kernels) {
  SF_CHECK(kernels >= 0 && kernels <= gradients.elements(), "{} kernels of {} gradients", kernels,
           gradients.elements());
  if (options.dtype != DType::kF32) {
    rounded_ = Tensor(gradients.shape(), options.dtype, ctx.resource(), "rounded gradients");
  }
}

void GradientReducer::start(int64_t begin, int64_t end) {
  if (begin == end) {
    return;
  }
  TensorView bucket = gradients_.slice(0, begin, end - begin);
  if (rounded_) {
    const TensorView rounded = rounded_.view().slice(0, begin, end - begin);
    cast(ctx_, {.x = bucket, .y = rounded});
    bucket = rounded;
  }
  sums_.start(bucket, fmt::format("gradients of step {{}}, bucket {}", ++started_));
}

void GradientReducer::begin() {
  started_ = 0;
  reduced_from_ = kernels_;
}

void GradientReducer::kernels_are_final(int64_t from) {
  SF_CHECK(from >= 0 && from <= reduced_from_, "gradients from {} after those from {}", from,
           reduced_from_);
  if (reduced_from_ - from >= bucket_elements_) {
    start(from, reduced_from_);
    reduced_from_ = from;
  }
}

void GradientReducer::finish() {
  start(0, reduced_from_);
  start(kernels_, gradients_.elements());
  sums_.join();
  if (rounded_) {
    cast(ctx_, {.x = rounded_.view(), .y = gradients_});
  }
}

}  // namespace stemfabric
