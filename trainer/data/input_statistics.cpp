#include "trainer/data/input_statistics.h"

#include <algorithm>
#include <cmath>

namespace stemfabric {

FeatureMoments::FeatureMoments(int64_t features)
    : count_(static_cast<std::size_t>(features)),
      mean_(static_cast<std::size_t>(features)),
      squares_(static_cast<std::size_t>(features)) {}

void FeatureMoments::clear() {
  std::fill(count_.begin(), count_.end(), 0.0);
  std::fill(mean_.begin(), mean_.end(), 0.0);
  std::fill(squares_.begin(), squares_.end(), 0.0);
}

void FeatureMoments::add(const SnapshotTokenizer& tokenizer, const TokenSample& sample) {
  const int64_t features = tokenizer.features();
  for (int64_t token = 0; token < tokenizer.tokens(); ++token) {
    if (sample.input_mask[static_cast<std::size_t>(token)] == 0) {
      continue;
    }
    const float* row = sample.inputs.data() + token * features;
    for (int64_t f = 0; f < features; ++f) {
      const auto i = static_cast<std::size_t>(f);
      if (!tokenizer.scaled()[i] || !tokenizer.present(sample, token, f)) {
        continue;
      }
      const double value = static_cast<double>(row[f]);
      const double delta = value - mean_[i];
      count_[i] += 1.0;
      mean_[i] += delta / count_[i];
      squares_[i] += delta * (value - mean_[i]);
    }
  }
}

void FeatureMoments::merge(const FeatureMoments& other) {
  for (std::size_t i = 0; i < count_.size(); ++i) {
    const double total = count_[i] + other.count_[i];
    if (other.count_[i] == 0.0) {
      continue;
    }
    const double delta = other.mean_[i] - mean_[i];
    mean_[i] += delta * (other.count_[i] / total);
    squares_[i] += other.squares_[i] + delta * delta * (count_[i] * other.count_[i] / total);
    count_[i] = total;
  }
}

InputStatistics FeatureMoments::statistics(const std::vector<bool>& scaled) const {
  constexpr double kFloor = 1e-6;      // of the mean: below it, the deviation is rounding
  constexpr double kSmallest = 1e-30;  // its inverse is still a float32
  InputStatistics result;
  for (std::size_t i = 0; i < count_.size(); ++i) {
    const bool has = scaled[i] && count_[i] > 0.0;
    const double deviation = has ? std::sqrt(squares_[i] / count_[i]) : 0.0;
    const bool constant = deviation <= kFloor * std::abs(mean_[i]) || deviation < kSmallest;
    result.mean.push_back(has ? static_cast<float>(mean_[i]) : 0.0F);
    result.scale.push_back(has && !constant ? static_cast<float>(1.0 / deviation) : 1.0F);
  }
  return result;
}

}  // namespace stemfabric
