#include "tests/oracles/stft_features_oracle.h"

#include <algorithm>
#include <cmath>
#include <complex>

namespace stemfabric::test {
namespace {

constexpr double kFloor = 1e-10;

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

template <typename T>
struct Frame {
  std::vector<T> left, right, mid, side, phase;  // [K]: p_L, p_R, p_M, p_S, q
  std::vector<T> hop;                            // mid samples, one before the hop first
};

template <typename T>
class Oracle {
 public:
  Oracle(const StftInput& in, double sample_rate)
      : in_(in),
        sample_rate_(static_cast<T>(sample_rate)),
        frame_count_(1 + in.samples / in.hop_length),
        edges_(feature_edges_oracle(in.n_fft / 2 + 1)),
        spectra_(stft_oracle<T>(in, Transform::kRecursion)) {}

  std::vector<double> all() {
    std::vector<double> out;
    for (int64_t b = 0; b < in_.channels / 2; ++b) {
      frames_.clear();
      for (int64_t t = 0; t < frame_count_; ++t) {
        frames_.push_back(frame(b, t));
      }
      for (int64_t t = 0; t < frame_count_; ++t) {
        const auto features = features_of(t);
        out.insert(out.end(), features.begin(), features.end());
      }
    }
    return out;
  }

 private:
  Frame<T> frame(int64_t b, int64_t t) const {
    Frame<T> f;
    const int64_t n = in_.n_fft;
    const int64_t bins = n / 2 + 1;
    const auto bin = [&](int64_t c, int64_t k) {
      const auto i = at((((2 * b + c) * frame_count_ + t) * bins + k) * 2);
      return std::complex<T>(static_cast<T>(spectra_[i]), static_cast<T>(spectra_[i + 1]));
    };
    for (int64_t k = 0; k < bins; ++k) {
      const T scale = static_cast<T>(k == 0 || k == n / 2 ? 1 : 2) /
                      (static_cast<T>(n) * static_cast<T>(0.375) * static_cast<T>(n));
      const auto l = bin(0, k);
      const auto r = bin(1, k);
      f.left.push_back(scale * std::norm(l));
      f.right.push_back(scale * std::norm(r));
      f.mid.push_back(scale * std::norm((l + r) / T{2}));
      f.side.push_back(scale * std::norm((l - r) / T{2}));
      f.phase.push_back(scale * std::imag(l * std::conj(r)));
    }
    for (int64_t i = -1; i < in_.hop_length; ++i) {
      const int64_t sample = t * in_.hop_length - in_.hop_length / 2 + i;
      const auto x = [&](int64_t c) {
        const double* channel = in_.signal.data() + (2 * b + c) * in_.samples;
        return static_cast<T>(mirrored(channel, in_.samples, sample));
      };
      f.hop.push_back((x(0) + x(1)) / T{2});
    }
    return f;
  }

  // Of the bins of group g of `groups`; bands if there are 128.
  T sum(const std::vector<T>& bins, int64_t g, int64_t groups) const {
    T s = 0;
    for (int k = edges_[at(128 * g / groups)]; k < edges_[at(128 * (g + 1) / groups)]; ++k) {
      s += bins[at(k)];
    }
    return s;
  }
  T power(int64_t t, int64_t band) const {
    const auto& f = frames_[at(std::clamp<int64_t>(t, 0, frame_count_ - 1))];
    return sum(f.mid, std::clamp<int64_t>(band, 0, 127), 128);
  }
  T density(int64_t t, int64_t band) const {
    const int64_t j = std::clamp<int64_t>(band, 0, 127);
    return power(t, j) / static_cast<T>(edges_[at(j + 1)] - edges_[at(j)]);
  }
  static T log_of(T power) { return std::log10(power + static_cast<T>(kFloor)); }
  static T median(std::vector<T> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
  }

  // The part of a band's power that is harmonic, percussive.
  std::pair<T, T> parts(int64_t t, int64_t j) const {
    std::vector<T> in_time, in_frequency;
    for (int i = -8; i <= 8; ++i) {
      in_time.push_back(density(t + i, j));
      in_frequency.push_back(density(t, j + i));
    }
    const T h = median(in_time);
    const T v = median(in_frequency);
    const T part = power(t, j) / (h + v + static_cast<T>(kFloor));
    return {part * h, part * v};
  }

  T pitch(const Frame<T>& f) const {
    const T bin = sample_rate_ / static_cast<T>(in_.n_fft);
    const auto salience = [&](int64_t k) {
      T s = 0;
      for (int h = 1; h <= 5; ++h) {
        if (h * k <= in_.n_fft / 2) {
          s += static_cast<T>(std::pow(0.8, h - 1)) * std::sqrt(f.mid[at(h * k)]);
        }
      }
      return s;
    };
    const auto first = static_cast<int64_t>(std::ceil(T{55} / bin));
    const auto last = static_cast<int64_t>(std::floor(T{1760} / bin));
    int64_t best = first;
    for (int64_t k = first; k <= last; ++k) {
      best = salience(k) > salience(best) ? k : best;
    }
    const T s = salience(best);
    if (s <= static_cast<T>(std::sqrt(kFloor))) {
      return 0;
    }
    T vertex = 0;
    if (best > first && best < last) {
      const T below = salience(best - 1);
      const T above = salience(best + 1);
      vertex = (above - below) / (2 * (2 * s - below - above));
    }
    return std::log2((static_cast<T>(best) + vertex) * bin / T{55});
  }

  T flux(int64_t t) const {
    T rise = 0;
    T level = 0;
    for (int64_t j = 0; j < 128; ++j) {
      const T a = std::sqrt(power(t, j));
      rise += std::max(T{0}, a - std::sqrt(power(t - 1, j)));
      level += a;
    }
    return rise / (level + static_cast<T>(std::sqrt(kFloor)));
  }

  void add_stereo(const Frame<T>& f, std::vector<double>& out) const {
    const T floor = static_cast<T>(kFloor);
    for (int64_t g = 0; g < 21; ++g) {
      const T left = sum(f.left, g, 21);
      const T right = sum(f.right, g, 21);
      const T mid = sum(f.mid, g, 21);
      const T side = sum(f.side, g, 21);
      out.push_back(side / (mid + side + floor));
      out.push_back((right - left) / (left + right + floor));
      out.push_back(2 * sum(f.phase, g, 21) / (left + right + floor));
    }
    const T mid = sum(f.mid, 0, 1);
    const T side = sum(f.side, 0, 1);
    out.push_back((mid - side) / (mid + side + floor));
  }

  void add_parts(int64_t t, int64_t groups, bool harmonic, std::vector<double>& out) const {
    for (int64_t g = 0; g < groups; ++g) {
      T s = 0;
      for (int64_t j = 128 * g / groups; j < 128 * (g + 1) / groups; ++j) {
        s += harmonic ? parts(t, j).first : parts(t, j).second;
      }
      out.push_back(log_of(s));
    }
  }

  void add_temporal(int64_t t, std::vector<double>& out) const {
    const auto& hop = frames_[at(t)].hop;
    T squares = 0;
    T crossings = 0;
    for (std::size_t i = 1; i < hop.size(); ++i) {
      squares += hop[i] * hop[i];
      crossings += (hop[i] < 0) != (hop[i - 1] < 0) ? T{1} : T{0};
    }
    out.push_back(std::sqrt(squares / static_cast<T>(in_.hop_length)));
    out.push_back(crossings / static_cast<T>(in_.hop_length));
    out.push_back(pitch(frames_[at(t)]));
    out.push_back(flux(t));
  }

  std::vector<double> features_of(int64_t t) const {
    const Frame<T>& f = frames_[at(t)];
    std::vector<double> out;
    for (int64_t j = 0; j < 128; ++j) {
      out.push_back(log_of(power(t, j)));
    }
    add_stereo(f, out);
    add_parts(t, 32, true, out);
    add_parts(t, 24, false, out);
    add_temporal(t, out);
    for (const auto* bins : {&f.left, &f.right, &f.mid, &f.side}) {
      out.push_back(log_of(sum(*bins, 0, 1)));
    }
    return out;
  }

  StftInput in_;
  T sample_rate_;
  int64_t frame_count_;
  std::vector<int> edges_;
  std::vector<double> spectra_;
  std::vector<Frame<T>> frames_;  // of one batch sample
};

}  // namespace

template <typename T>
std::vector<double> stft_features_oracle(const StftInput& in, double sample_rate) {
  return Oracle<T>(in, sample_rate).all();
}

std::vector<int> feature_edges_oracle(int64_t bins) {
  std::vector<int> edges = {0, 1};
  while (edges.size() < 129) {
    const double left = 129.0 - static_cast<double>(edges.size());
    const double growth = std::exp(std::log(static_cast<double>(bins) / edges.back()) / left);
    const double width = std::floor(edges.back() * (growth - 1) + 0.5);
    edges.push_back(edges.back() + static_cast<int>(std::max(1.0, width)));
  }
  return edges;
}

template std::vector<double> stft_features_oracle<float>(const StftInput&, double);
template std::vector<double> stft_features_oracle<double>(const StftInput&, double);

}  // namespace stemfabric::test
