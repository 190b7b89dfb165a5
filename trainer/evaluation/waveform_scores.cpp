#include "trainer/evaluation/waveform_scores.h"

#include <cmath>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

struct Channel {
  const float *r, *e;
  int64_t n, r_step, e_step;

  template <typename Body>
  void for_samples(const Body& body) const {
    for (int64_t i = 0; i < n; ++i) {
      body(static_cast<double>(r[i * r_step]), static_cast<double>(e[i * e_step]));
    }
  }
};

std::vector<Channel> channels_of(const char* what, const ConstTensorView& reference,
                                 const ConstTensorView& estimate) {
  check_tensor(what, "reference", reference, DType::kF32, {-1, -1});
  check_tensor(what, "estimate", estimate, DType::kF32, {reference.dim(0), reference.dim(1)});
  std::vector<Channel> channels;
  for (int64_t c = 0; c < reference.dim(0); ++c) {
    channels.push_back({reference.as<float>() + c * reference.stride(0),
                        estimate.as<float>() + c * estimate.stride(0), reference.dim(1),
                        reference.stride(1), estimate.stride(1)});
  }
  return channels;
}

// What α needs, and then the residual's energy.
struct Sums {
  double er = 0, rr = 0, residual = 0;
  double alpha() const { return er / rr; }
  double decibel() const { return 10 * std::log10(alpha() * alpha() * rr / residual); }
  void add_products(const Sums& other) {
    er += other.er;
    rr += other.rr;
  }
};

struct Means {
  double r = 0, e = 0;
};

Means means_of(const Channel& channel) {
  Means sum;
  channel.for_samples([&](double r, double e) {
    sum.r += r;
    sum.e += e;
  });
  const auto n = static_cast<double>(channel.n);
  return {sum.r / n, sum.e / n};
}

Sums products(const Channel& channel, const Means& means) {
  Sums sums;
  channel.for_samples([&](double r, double e) {
    sums.er += (e - means.e) * (r - means.r);
    sums.rr += (r - means.r) * (r - means.r);
  });
  return sums;
}

double residual(const Channel& channel, const Means& means, double alpha) {
  double sum = 0;
  channel.for_samples([&](double r, double e) {
    const double difference = (e - means.e) - alpha * (r - means.r);
    sum += difference * difference;
  });
  return sum;
}

// One of the two conventions about means: for all channels together, and each.
double si_sdr_of(const std::vector<Channel>& channels, const std::vector<Means>& means,
                 std::vector<double>& per_channel) {
  Sums all;
  for (std::size_t c = 0; c < channels.size(); ++c) {
    Sums own = products(channels[c], means[c]);
    all.add_products(own);
    own.residual = residual(channels[c], means[c], own.alpha());
    per_channel.push_back(own.decibel());
  }
  for (std::size_t c = 0; c < channels.size(); ++c) {
    all.residual += residual(channels[c], means[c], all.alpha());
  }
  return all.decibel();
}

}  // namespace

SiSdr si_sdr(const ConstTensorView& reference, const ConstTensorView& estimate) {
  const std::vector<Channel> channels = channels_of("si_sdr", reference, estimate);
  std::vector<Means> means(channels.size());
  SiSdr result;
  result.all_channels = si_sdr_of(channels, means, result.per_channel);
  for (std::size_t c = 0; c < channels.size(); ++c) {
    means[c] = means_of(channels[c]);
  }
  result.all_channels_zero_mean = si_sdr_of(channels, means, result.per_channel_zero_mean);
  return result;
}

double utterance_sdr(const ConstTensorView& reference, const ConstTensorView& estimate) {
  double signal = kUtteranceSdrEpsilon;
  double error = kUtteranceSdrEpsilon;
  for (const Channel& channel : channels_of("utterance_sdr", reference, estimate)) {
    channel.for_samples([&](double r, double e) {
      signal += r * r;
      error += (r - e) * (r - e);
    });
  }
  return 10 * std::log10(signal / error);
}

}  // namespace stemfabric
