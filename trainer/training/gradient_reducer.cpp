#include "trainer/training/gradient_reducer.h"

#include <fmt/core.h>

#include <algorithm>

#include "runtime/core/check.h"

namespace stemfabric {

GradientReducer::GradientReducer(Collectives& ranks, const TensorView& gradients, int64_t kernels,
                                 int64_t bucket_bytes)
    : ranks_(ranks),
      gradients_(gradients),
      kernels_(kernels),
      bucket_elements_(std::max<int64_t>(1, bucket_bytes / static_cast<int64_t>(sizeof(float)))),
      reduced_from_(kernels) {
  SF_CHECK(kernels >= 0 && kernels <= gradients.elements(), "{} kernels of {} gradients", kernels,
           gradients.elements());
}

void GradientReducer::start(int64_t begin, int64_t end) {
  for (const auto& sum : pending_) {
    sum->test();
  }
  const int64_t most = ranks_.options().most_bytes / static_cast<int64_t>(sizeof(float));
  for (int64_t from = begin; from < end; from += most) {
    pending_.push_back(ranks_.start_all_reduce(
        gradients_.slice(0, from, std::min(most, end - from)),
        fmt::format("gradients of step {}, bucket {}", step_ + 1, ++started_)));
  }
}

void GradientReducer::begin(int64_t step) {
  SF_CHECK(pending_.empty(), "sums of step {} are under way", step_ + 1);
  step_ = step;
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
  for (const auto& sum : pending_) {
    sum->wait();
  }
  pending_.clear();
}

}  // namespace stemfabric
