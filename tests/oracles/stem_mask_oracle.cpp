#include "tests/oracles/stem_mask_oracle.h"

#include <algorithm>
#include <cmath>
#include <complex>

namespace stemfabric::test {
namespace {

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

// One frame of one stem, and where its elements lie in the tensors.
template <typename T>
class Frame {
 public:
  Frame(const StemMaskInput& in, const std::vector<double>& positions, int64_t s, int64_t b,
        int64_t t)
      : in_(in), c_(in.shape), positions_(positions), s_(s), b_(b), t_(t) {
    for (int64_t i = 0; i < c_.outputs(); ++i) {
      const T x = static_cast<T>(in.prediction[at(first_output() + i)]);
      activation_.push_back(c_.complex_mask ? x : 1 / (1 + std::exp(-x)));
    }
  }

  int64_t first_output() const { return ((s_ * c_.b + b_) * c_.t + t_) * c_.outputs(); }
  int64_t parts() const { return c_.complex_mask ? 2 : 1; }
  int64_t mask_channel(int64_t channel) const { return c_.shared ? 0 : channel; }
  // Output (mask channel, part, band) of the frame.
  int64_t output(int64_t mask_channel, int64_t part, int64_t band) const {
    return (mask_channel * parts() + part) * c_.bands + band;
  }
  // The real part of an element, in [S, B, C, T, K, 2].
  int64_t spectrum_index(int64_t channel, int64_t bin) const {
    return (((s_ * c_.b + b_) * c_.c + channel) * c_.t + t_) * c_.k * 2 + bin * 2;
  }
  std::complex<T> mixture(int64_t channel, int64_t bin) const {
    return value(in_.mixture, spectrum_index(channel, bin) - s_ * c_.spectrum_floats());
  }
  std::complex<T> target(int64_t channel, int64_t bin) const {
    return value(in_.target, spectrum_index(channel, bin));
  }

  // The bands that a bin is between, and its share in each: a triangle around the band's centre.
  int64_t first_band(int64_t bin) const { return static_cast<int64_t>(positions_[at(bin)]); }
  int64_t last_band(int64_t bin) const { return std::min(first_band(bin) + 1, c_.bands - 1); }
  T share(int64_t band, int64_t bin) const {
    return static_cast<T>(1 - std::abs(positions_[at(bin)] - static_cast<double>(band)));
  }
  T slope(int64_t output) const {
    const T a = activation_[at(output)];
    return c_.complex_mask ? T(1) : a * (1 - a);
  }
  std::complex<T> mask(int64_t channel, int64_t bin) const {
    T value[2] = {0, 0};
    for (int64_t part = 0; part < parts(); ++part) {
      for (int64_t j = first_band(bin); j <= last_band(bin); ++j) {
        value[part] += share(j, bin) * activation_[at(output(mask_channel(channel), part, j))];
      }
    }
    return {value[0], value[1]};
  }

 private:
  static std::complex<T> value(const std::vector<double>& from, int64_t i) {
    return {static_cast<T>(from[at(i)]), static_cast<T>(from[at(i + 1)])};
  }

  const StemMaskInput& in_;
  const StemMaskCase& c_;
  const std::vector<double>& positions_;
  int64_t s_, b_, t_;
  std::vector<T> activation_;
};

template <typename T>
struct Element {
  T loss;
  std::complex<T> gradient;  // ∂/∂re + i ∂/∂im, with respect to the estimate
};

template <typename T>
Element<T> element(const StemMaskInput& in, const std::complex<T>& estimate,
                   const std::complex<T>& target) {
  const T p = static_cast<T>(in.shape.compression);
  const T epsilon = static_cast<T>(in.epsilon);
  const T magnitude = static_cast<T>(in.shape.magnitude_weight);
  const T direct = static_cast<T>(in.shape.complex_weight);
  const T size = std::sqrt(std::norm(estimate) + epsilon * epsilon);
  const T target_size = std::sqrt(std::norm(target) + epsilon * epsilon);
  const T difference = std::pow(size, p) - std::pow(target_size, p);
  const std::complex<T> delta = estimate - target;
  return {magnitude * difference * difference + direct * std::norm(delta),
          2 * magnitude * difference * p * std::pow(size, p - 2) * estimate + 2 * direct * delta};
}

// Writes the frame's estimate and its gradient, not yet divided by the count; returns the sum of
// its elements.
template <typename T>
double run_frame(const StemMaskInput& in, const Frame<T>& frame, StemMaskOutput& out) {
  const StemMaskCase& c = in.shape;
  double sum = 0;
  std::vector<std::complex<T>> dmask(at(c.c * c.k));  // the first mask_channels · K are used
  for (int64_t channel = 0; channel < c.c; ++channel) {
    for (int64_t bin = 0; bin < c.k; ++bin) {
      const std::complex<T> x = frame.mixture(channel, bin);
      const std::complex<T> estimate = frame.mask(channel, bin) * x;
      const auto e = element(in, estimate, frame.target(channel, bin));
      sum += static_cast<double>(e.loss);
      // estimate = m x is analytic in m: the gradient is multiplied by the conjugate of x.
      dmask[at(frame.mask_channel(channel) * c.k + bin)] += std::conj(x) * e.gradient;
      const int64_t i = frame.spectrum_index(channel, bin);
      out.estimate[at(i)] = static_cast<double>(estimate.real());
      out.estimate[at(i + 1)] = static_cast<double>(estimate.imag());
    }
  }
  std::vector<T> gradient(at(c.outputs()));
  for (int64_t channel = 0; channel < (c.shared ? 1 : c.c); ++channel) {
    for (int64_t bin = 0; bin < c.k; ++bin) {
      const std::complex<T> g = dmask[at(channel * c.k + bin)];
      for (int64_t j = frame.first_band(bin); j <= frame.last_band(bin); ++j) {
        gradient[at(frame.output(channel, 0, j))] += frame.share(j, bin) * g.real();
        if (c.complex_mask) {
          gradient[at(frame.output(channel, 1, j))] += frame.share(j, bin) * g.imag();
        }
      }
    }
  }
  for (int64_t i = 0; i < c.outputs(); ++i) {
    out.gradient[at(frame.first_output() + i)] =
        static_cast<double>(gradient[at(i)] * frame.slope(i));
  }
  return sum;
}

}  // namespace

std::vector<double> mask_positions(int64_t bands, int64_t bins) {
  std::vector<double> positions;
  if (bands >= bins) {
    for (int64_t k = 0; k < bins; ++k) {
      positions.push_back(static_cast<double>(k));
    }
    return positions;
  }
  // With x = (bands − 1)/r: sinh(x)/x = (bins − 1)/(bands − 1). The left side is convex and grows,
  // so Newton's method from the right never overshoots.
  const long double ratio =
      static_cast<long double>(bins - 1) / static_cast<long double>(bands - 1);
  long double x = 2 * std::log(2 * ratio) + 2;
  for (int i = 0; i < 100; ++i) {
    x -= (std::sinh(x) - ratio * x) / (std::cosh(x) - ratio);
  }
  const long double r = static_cast<long double>(bands - 1) / x;
  for (int64_t k = 0; k < bins; ++k) {
    positions.push_back(static_cast<double>(r * std::asinh(static_cast<long double>(k) / r)));
  }
  return positions;
}

template <typename T>
StemMaskOutput stem_mask_oracle(const StemMaskInput& in) {
  const StemMaskCase& c = in.shape;
  const auto positions = mask_positions(c.bands, c.k);
  const auto given = [](const std::vector<double>& mask, int64_t i) {
    return mask.empty() ? 1.0 : mask[at(i)];
  };
  StemMaskOutput out;
  out.estimate.assign(at(c.s * c.spectrum_floats()), 0.0);
  out.gradient.assign(at(c.s * c.b * c.t * c.outputs()), 0.0);
  for (int64_t s = 0; s < c.s; ++s) {
    double count = 0;
    double loss = 0;
    double weighted = 0;
    for (int64_t b = 0; b < c.b; ++b) {
      for (int64_t t = 0; t < c.t; ++t) {
        if (given(in.presence, b * c.s + s) == 0 || given(in.key_mask, b * c.t + t) == 0) {
          continue;
        }
        const double sum = run_frame(in, Frame<T>(in, positions, s, b, t), out);
        count += static_cast<double>(c.c * c.k);
        loss += sum;
        weighted += given(in.weight, b * c.s + s) * sum;
      }
    }
    out.count.push_back(count);
    out.loss.push_back(count > 0 ? loss / count : 0);
    out.weighted.push_back(count > 0 ? weighted / count : 0);
    const int64_t per_sample = c.t * c.outputs();
    for (int64_t i = 0; i < c.b * per_sample; ++i) {
      double& g = out.gradient[at(s * c.b * per_sample + i)];
      const T weight = static_cast<T>(given(in.weight, i / per_sample * c.s + s));
      g = count > 0 ? static_cast<double>(static_cast<T>(g) * weight / static_cast<T>(count)) : 0;
    }
  }
  return out;
}

template StemMaskOutput stem_mask_oracle<float>(const StemMaskInput&);
template StemMaskOutput stem_mask_oracle<double>(const StemMaskInput&);

}  // namespace stemfabric::test
