// Mean and deviation per input feature, over the values that are present; the size of targets.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trainer/data/dataset.h"
#include "trainer/data/snapshot_tokens.h"

namespace stemfabric {

// Count, mean and sum of squared deviations per feature, merged as Chan, Golub and LeVeque (1979)
// do. The result depends on the order of merging only, which the caller keeps.
class FeatureMoments {
 public:
  explicit FeatureMoments(int64_t features = 0);
  int64_t features() const { return static_cast<int64_t>(count_.size()); }
  // Of the present values of one sample that are to be scaled.
  void set(const SnapshotTokenizer& tokenizer, const TokenSample& sample);
  void merge(const FeatureMoments& other);

  // Scale = 1 / deviation; 1 where the deviation is below 1e-6 of the mean's magnitude or zero (a
  // constant feature), or where the feature is not scaled.
  InputStatistics statistics(const std::vector<bool>& scaled) const;

 private:
  std::vector<double> count_;
  std::vector<double> mean_;
  std::vector<double> squares_;
  std::vector<float> present_;
};

// Sums of squares of the supervised targets, per stem.
class TargetSquares {
 public:
  TargetSquares() = default;
  explicit TargetSquares(const TokenSample& sample);
  void merge(const TargetSquares& other);
  // The powers of two nearest to the root mean squares, as DatasetFolder::target_scale has them.
  std::array<float, kStemCount> scale() const;

 private:
  std::array<double, kStemCount> sum_{};
  std::array<double, kStemCount> count_{};
};

}  // namespace stemfabric
