#include "trainer/data/input_statistics.h"

#include <algorithm>
#include <cmath>

namespace stemfabric {

FeatureMoments::FeatureMoments(int64_t features)
    : count_(static_cast<std::size_t>(features)),
      mean_(static_cast<std::size_t>(features)),
      squares_(static_cast<std::size_t>(features)),
      present_(static_cast<std::size_t>(features)) {}

void FeatureMoments::set(const SnapshotTokenizer& tokenizer, const TokenSample& sample) {
  const auto features = static_cast<std::size_t>(tokenizer.features());
  std::fill(count_.begin(), count_.end(), 0.0);
  std::fill(mean_.begin(), mean_.end(), 0.0);
  std::fill(squares_.begin(), squares_.end(), 0.0);
  // Twice over the values: sums, then squares of the deviations from the mean.
  const auto each_value = [&](auto&& take) {
    for (int64_t token = 0; token < tokenizer.tokens(); ++token) {
      const auto t = static_cast<std::size_t>(token);
      if (sample.input_mask[t] != 0) {
        tokenizer.present(sample, token, present_);
        const float* row = sample.inputs.data() + t * features;
        for (std::size_t f = 0; f < features; ++f) {
          take(f, static_cast<double>(row[f]), static_cast<double>(present_[f]));
        }
      }
    }
  };
  each_value([&](std::size_t f, double value, double present) {
    count_[f] += present;
    mean_[f] += present * value;
  });
  for (std::size_t f = 0; f < features; ++f) {
    mean_[f] /= std::max(count_[f], 1.0);
  }
  each_value([&](std::size_t f, double value, double present) {
    squares_[f] += present * (value - mean_[f]) * (value - mean_[f]);
  });
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

TargetSquares::TargetSquares(const TokenSample& sample) {
  const std::size_t of_stem = sample.targets.size() / kStemCount;
  for (std::size_t i = 0; i < sample.targets.size(); ++i) {
    const auto value = static_cast<double>(sample.targets[i]);
    const double counts = sample.target_mask[i] != 0 ? 1.0 : 0.0;
    sum_[i / of_stem] += counts * value * value;
    count_[i / of_stem] += counts;
  }
}

void TargetSquares::merge(const TargetSquares& other) {
  for (std::size_t s = 0; s < kStemCount; ++s) {
    sum_[s] += other.sum_[s];
    count_[s] += other.count_[s];
  }
}

std::array<float, kStemCount> TargetSquares::scale() const {
  std::array<float, kStemCount> scale{};
  for (std::size_t s = 0; s < kStemCount; ++s) {
    // 0 where nothing is supervised or all of it is silent.
    const double mean = sum_[s] / std::max(count_[s], 1.0);
    const double exponent = mean > 0
                                ? std::clamp<double>(std::round(0.5 * std::log2(mean)),
                                                     -kMostTargetExponent, kMostTargetExponent - 1)
                                : 0.0;
    scale[s] = static_cast<float>(std::exp2(exponent));
  }
  return scale;
}

}  // namespace stemfabric
