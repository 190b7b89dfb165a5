#include "tests/oracles/stem_loss_oracle.h"

namespace stemfabric::test {

template <typename T>
StemLossOutput stem_loss_oracle(const StemLossInput& in) {
  const auto at = [](int64_t i) { return static_cast<std::size_t>(i); };
  StemLossOutput out;
  out.gradient.assign(in.prediction.size(), 0.0);
  for (int64_t s = 0; s < in.s; ++s) {
    std::vector<int64_t> present;  // flat indices
    const int64_t per_stem = in.b * in.t * in.o;
    for (int64_t i = s * per_stem; i < (s + 1) * per_stem; ++i) {
      const int64_t key = i % per_stem / in.o;
      const bool here = (in.target_mask.empty() || in.target_mask[at(i)] != 0) &&
                        (in.key_mask.empty() || in.key_mask[at(key)] != 0);
      if (here) {
        present.push_back(i);
      }
    }
    const double count = static_cast<double>(present.size());
    double sum = 0;
    double weighted = 0;
    for (int64_t i : present) {
      const int64_t b = i % per_stem / (in.t * in.o);
      const double weight = in.weight.empty() ? 1.0 : in.weight[at(b * in.s + s)];
      const T difference = static_cast<T>(in.prediction[at(i)]) - static_cast<T>(in.target[at(i)]);
      const auto wide = static_cast<double>(difference);
      sum += wide * wide;
      weighted += weight * wide * wide;
      out.gradient[at(i)] =
          static_cast<double>(static_cast<T>(weight) * 2 * difference / static_cast<T>(count));
    }
    out.count.push_back(static_cast<double>(present.size()));
    out.loss.push_back(present.empty() ? 0.0 : sum / count);
    out.weighted.push_back(present.empty() ? 0.0 : weighted / count);
  }
  return out;
}

template StemLossOutput stem_loss_oracle<float>(const StemLossInput&);
template StemLossOutput stem_loss_oracle<double>(const StemLossInput&);

}  // namespace stemfabric::test
