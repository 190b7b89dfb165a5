#include "tests/oracles/bss_oracle.h"

#include <cmath>
#include <limits>

namespace stemfabric::test {
namespace {

using Vector = std::vector<double>;

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

void add(Vector& to, double factor, const Vector& v) {
  for (std::size_t i = 0; i < v.size(); ++i) {
    to[i] += factor * v[i];
  }
}

// x delayed by `delay` in a vector of n.
Vector delayed(const Vector& x, int64_t delay, int64_t n) {
  Vector v(at(n));
  for (std::size_t i = 0; i < x.size(); ++i) {
    v[i + at(delay)] = x[i];
  }
  return v;
}

// Least squares by Gram-Schmidt, twice for each column. A column whose remainder is rounding is
// left out.
class LeastSquares {
 public:
  explicit LeastSquares(const std::vector<Vector>& columns) : width_(columns.size()) {
    constexpr double kRounding = 1e-10;
    for (std::size_t k = 0; k < columns.size(); ++k) {
      Vector rest = columns[k];
      Vector coefficients(basis_.size());
      for (int pass = 0; pass < 2; ++pass) {
        for (std::size_t i = 0; i < basis_.size(); ++i) {
          const double c = dot(basis_[i], rest);
          add(rest, -c, basis_[i]);
          coefficients[i] += c;
        }
      }
      const double norm = std::sqrt(dot(rest, rest));
      if (norm <= kRounding * std::sqrt(dot(columns[k], columns[k]))) {
        continue;
      }
      for (double& v : rest) {
        v /= norm;
      }
      coefficients.push_back(norm);
      basis_.push_back(rest);
      r_.push_back(coefficients);
      kept_.push_back(k);
    }
  }

  // The weight of every column.
  Vector solve(const Vector& y) const {
    Vector right(basis_.size());
    for (std::size_t i = 0; i < basis_.size(); ++i) {
      right[i] = dot(basis_[i], y);
    }
    Vector weights(width_);
    for (std::size_t i = basis_.size(); i-- > 0;) {
      const double w = right[i] / r_[i][i];
      weights[kept_[i]] = w;
      for (std::size_t j = 0; j < i; ++j) {
        right[j] -= r_[i][j] * w;
      }
    }
    return weights;
  }

 private:
  std::size_t width_;
  std::vector<Vector> basis_;
  std::vector<Vector> r_;  // r_[i]: column i, rows 0 … i
  std::vector<std::size_t> kept_;
};

// Filters sources [first, last) for every channel of the estimate of source j: the projection of a
// part of the signals.
struct Projection {
  int64_t first, last;
  std::vector<Vector> weights;  // [C]: of columns (source, channel, delay)

  Projection(const BssInput& in, int64_t j, int64_t first_source, int64_t last_source)
      : first(first_source), last(last_source) {
    const int64_t n = in.samples + in.taps - 1;
    std::vector<Vector> columns;
    for (int64_t s = first; s < last; ++s) {
      for (int64_t c = 0; c < in.channels; ++c) {
        for (int64_t delay = 0; delay < in.taps; ++delay) {
          columns.push_back(delayed(in.signal(in.references, s, c), delay, n));
        }
      }
    }
    const LeastSquares system(columns);
    for (int64_t c = 0; c < in.channels; ++c) {
      weights.push_back(system.solve(delayed(in.signal(in.estimates, j, c), 0, n)));
    }
  }

  Vector apply(const BssInput& in, int64_t channel, int64_t begin, int64_t end) const {
    Vector out(at(end - begin + in.taps - 1));
    std::size_t k = 0;
    for (int64_t s = first; s < last; ++s) {
      for (int64_t c = 0; c < in.channels; ++c) {
        const Vector x = in.signal(in.references, s, c);
        for (int64_t delay = 0; delay < in.taps; ++delay, ++k) {
          for (int64_t t = begin; t < end; ++t) {
            out[at(t - begin + delay)] += weights[at(channel)][k] * x[at(t)];
          }
        }
      }
    }
    return out;
  }
};

// Σ (a − b)²
double distance(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += (a[i] - b[i]) * (a[i] - b[i]);
  }
  return sum;
}

double ratio(double numerator, double denominator) {
  return denominator == 0 ? std::numeric_limits<double>::infinity()
                          : 10 * std::log10(numerator / denominator);
}

}  // namespace

std::vector<double> BssInput::signal(const std::vector<double>& all, int64_t source,
                                     int64_t channel) const {
  const auto begin = all.begin() + (source * channels + channel) * samples;
  return {begin, begin + samples};
}

std::vector<double> bss_oracle(const BssInput& in, int64_t begin, int64_t end) {
  std::vector<double> out(at(5 * in.sources));
  for (int64_t j = 0; j < in.sources; ++j) {
    const Projection all(in, j, 0, in.sources);
    const Projection own(in, j, j, j + 1);
    double target = 0, error = 0, spatial = 0, own_part = 0, interference = 0, whole_part = 0,
           artefacts = 0, own_error = 0;
    for (int64_t c = 0; c < in.channels; ++c) {
      const auto part = [&](const Vector& x) {
        return delayed({x.begin() + begin, x.begin() + end}, 0, end - begin + in.taps - 1);
      };
      const Vector s = part(in.signal(in.references, j, c));
      const Vector y = part(in.signal(in.estimates, j, c));
      const Vector p = all.apply(in, c, begin, end);
      const Vector q = own.apply(in, c, begin, end);
      target += dot(s, s);
      error += distance(y, s);
      spatial += distance(q, s);
      own_part += dot(q, q);
      interference += distance(p, q);
      whole_part += dot(p, p);
      artefacts += distance(y, p);
      own_error += distance(y, q);
    }
    out[at(j)] = ratio(target, error);
    out[at(in.sources + j)] = ratio(target, spatial);
    out[at(2 * in.sources + j)] = ratio(own_part, interference);
    out[at(3 * in.sources + j)] = ratio(whole_part, artefacts);
    out[at(4 * in.sources + j)] = ratio(own_part, own_error);
  }
  return out;
}

}  // namespace stemfabric::test
