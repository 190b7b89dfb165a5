// Mean and deviation per input feature, over the values that are present.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/data/dataset.h"
#include "trainer/data/snapshot_tokens.h"

namespace stemfabric {

// Count, mean and sum of squared deviations per feature (Welford; merged as Chan et al. 1979). The
// result depends on the order of merging only, which the caller keeps.
class FeatureMoments {
 public:
  explicit FeatureMoments(int64_t features = 0);
  // Adds the present values of a sample's tokens.
  void add(const SnapshotTokenizer& tokenizer, const TokenSample& sample);
  void merge(const FeatureMoments& other);
  void clear();

  // Scale = 1 / deviation; 1 where the deviation is below 1e-6 of the mean's magnitude or zero (a
  // constant feature), or where the feature is not scaled.
  InputStatistics statistics(const std::vector<bool>& scaled) const;

 private:
  std::vector<double> count_;
  std::vector<double> mean_;
  std::vector<double> squares_;
};

}  // namespace stemfabric
