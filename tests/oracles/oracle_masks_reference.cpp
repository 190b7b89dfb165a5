#include "tests/oracles/oracle_masks_reference.h"

#include <cmath>
#include <complex>

#include "tests/oracles/stft_oracle.h"

namespace stemfabric::test {
namespace {

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

using Value = std::complex<double>;

// A square matrix of one or two rows; a vector is its first column.
struct Matrix {
  int64_t n;
  Value m[2][2] = {};
};
Matrix operator*(const Matrix& x, const Matrix& y) {
  Matrix out{x.n};
  for (int64_t i = 0; i < x.n; ++i) {
    for (int64_t j = 0; j < x.n; ++j) {
      for (int64_t l = 0; l < x.n; ++l) {
        out.m[i][j] += x.m[i][l] * y.m[l][j];
      }
    }
  }
  return out;
}
Matrix operator*(double factor, Matrix x) {
  for (auto& row : x.m) {
    for (Value& v : row) {
      v *= factor;
    }
  }
  return x;
}
Matrix operator+(Matrix x, const Matrix& y) {
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) {
      x.m[i][j] += y.m[i][j];
    }
  }
  return x;
}
Matrix identity(int64_t n) {
  Matrix out{n};
  out.m[0][0] = out.m[1][1] = 1;
  return out;
}
Matrix adjoint(const Matrix& x) {
  return {
      x.n,
      {{std::conj(x.m[0][0]), std::conj(x.m[1][0])}, {std::conj(x.m[0][1]), std::conj(x.m[1][1])}}};
}
Matrix inverse(const Matrix& x) {
  if (x.n == 1) {
    return {1, {{1.0 / x.m[0][0]}}};
  }
  const Value determinant = x.m[0][0] * x.m[1][1] - x.m[0][1] * x.m[1][0];
  return {2,
          {{x.m[1][1] / determinant, -x.m[0][1] / determinant},
           {-x.m[1][0] / determinant, x.m[0][0] / determinant}}};
}
double trace(const Matrix& x) { return x.m[0][0].real() + (x.n == 2 ? x.m[1][1].real() : 0.0); }

class Track {
 public:
  template <typename T>
  static Track of(const OracleMasksInput& in) {
    Track track;
    track.channels_ = in.channels;
    track.frames_ = 1 + in.samples / in.hop_length;
    track.bins_ = in.n_fft / 2 + 1;
    const auto spectra = [&](const std::vector<double>& signal, int64_t rows) {
      return stft_oracle<T>({rows, in.samples, in.n_fft, in.hop_length, signal, {}},
                            Transform::kRecursion);
    };
    track.mixture_ = spectra(in.mixture, in.channels);
    track.sources_ = spectra(in.sources, in.stems * in.channels);
    const std::size_t size = track.mixture_.size();
    std::vector<double> rest = track.mixture_;
    for (std::size_t i = 0; i < track.sources_.size(); ++i) {
      rest[i % size] -= track.sources_[i];
    }
    track.sources_.insert(track.sources_.end(), rest.begin(), rest.end());
    return track;
  }
  int64_t frames() const { return frames_; }
  int64_t bins() const { return bins_; }
  // The real part of an element of [rows, T, K, 2].
  int64_t index(int64_t row, int64_t t, int64_t k) const {
    return ((row * frames_ + t) * bins_ + k) * 2;
  }
  Matrix mixture(int64_t t, int64_t k) const { return column(mixture_, 0, t, k); }
  Matrix source(int64_t i, int64_t t, int64_t k) const {
    return column(sources_, i * channels_, t, k);
  }

 private:
  Matrix column(const std::vector<double>& from, int64_t row, int64_t t, int64_t k) const {
    Matrix out{channels_};
    for (int64_t c = 0; c < channels_; ++c) {
      const int64_t i = index(row + c, t, k);
      out.m[c][0] = {from[at(i)], from[at(i + 1)]};
    }
    return out;
  }

  int64_t channels_ = 0, frames_ = 0, bins_ = 0;
  std::vector<double> mixture_, sources_;
};

Matrix covariance(const Track& track, int64_t source, int64_t channels, int64_t k) {
  Matrix sum{channels};
  for (int64_t t = 0; t < track.frames(); ++t) {
    const Matrix y = track.source(source, t, k);
    const Matrix outer = y * adjoint(y);
    if (trace(outer) > 0) {
      sum = sum + 1 / trace(outer) * outer;
    }
  }
  if (trace(sum) == 0) {
    return identity(channels);
  }
  const double n = static_cast<double>(channels);
  return n / trace(sum) * sum + 1e-8 * identity(channels);
}

// The gain of a stem on the mixture of one bin and frame.
Matrix gain(const OracleMasksInput& in, const Track& track, const std::vector<Matrix>& covariances,
            int64_t stem, int64_t t, int64_t k) {
  Matrix own{in.channels};
  Matrix all{in.channels};
  for (int64_t i = 0; i <= in.stems; ++i) {
    const Matrix y = track.source(i, t, k);
    Matrix part{in.channels};
    if (in.mask == ReferenceMask::kWiener) {
      const Matrix& r = covariances[at(i)];
      part = trace(inverse(r) * (y * adjoint(y))) / static_cast<double>(in.channels) * r;
    } else {
      for (int64_t c = 0; c < in.channels; ++c) {
        const double size = std::abs(y.m[c][0]);
        part.m[c][c] = in.mask == ReferenceMask::kRatio ? size : size * size;
      }
    }
    all = all + part;
    own = i == stem ? part : own;
  }
  // Where nobody sounds in a channel, nobody gets a share of it.
  if (in.mask == ReferenceMask::kWiener) {
    return trace(all) > 0 ? own * inverse(all) : Matrix{in.channels};
  }
  Matrix share{in.channels};
  for (int64_t c = 0; c < in.channels; ++c) {
    share.m[c][c] = all.m[c][c] == 0.0 ? 0.0 : own.m[c][c] / all.m[c][c];
  }
  return share;
}

}  // namespace

template <typename T>
std::vector<double> oracle_masks_reference(const OracleMasksInput& in) {
  const Track track = Track::of<T>(in);
  std::vector<double> estimates(at(track.index(in.stems * in.channels, 0, 0)));
  for (int64_t k = 0; k < track.bins(); ++k) {
    std::vector<Matrix> covariances;
    for (int64_t i = 0; i <= in.stems; ++i) {
      covariances.push_back(covariance(track, i, in.channels, k));
    }
    for (int64_t t = 0; t < track.frames(); ++t) {
      for (int64_t s = 0; s < in.stems; ++s) {
        const Matrix y = gain(in, track, covariances, s, t, k) * track.mixture(t, k);
        for (int64_t c = 0; c < in.channels; ++c) {
          const int64_t i = track.index(s * in.channels + c, t, k);
          estimates[at(i)] = y.m[c][0].real();
          estimates[at(i + 1)] = y.m[c][0].imag();
        }
      }
    }
  }
  return istft_oracle<T>(
      {in.stems * in.channels, in.samples, in.n_fft, in.hop_length, {}, std::move(estimates)},
      Transform::kRecursion);
}

template std::vector<double> oracle_masks_reference<float>(const OracleMasksInput&);
template std::vector<double> oracle_masks_reference<double>(const OracleMasksInput&);

}  // namespace stemfabric::test
