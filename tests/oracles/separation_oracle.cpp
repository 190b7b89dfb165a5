#include "tests/oracles/separation_oracle.h"

#include <cmath>

namespace stemfabric::test {
namespace {

using Real = long double;
using Matrix = std::vector<std::vector<Real>>;

Real inner(const std::vector<Real>& a, const std::vector<Real>& b) {
  Real sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

// Jacobi rotations: a becomes diagonal, v holds the eigenvectors in its columns.
void diagonalise(Matrix& a, Matrix& v) {
  const std::size_t n = a.size();
  v.assign(n, std::vector<Real>(n, 0));
  for (std::size_t i = 0; i < n; ++i) {
    v[i][i] = 1;
  }
  for (int sweep = 0; sweep < 60; ++sweep) {
    for (std::size_t p = 0; p < n; ++p) {
      for (std::size_t q = p + 1; q < n; ++q) {
        if (a[p][q] == 0) {
          continue;
        }
        const Real angle = std::atan2(2 * a[p][q], a[q][q] - a[p][p]) / 2;
        const Real c = std::cos(angle);
        const Real s = std::sin(angle);
        for (std::size_t k = 0; k < n; ++k) {
          const Real x = a[k][p];
          a[k][p] = c * x - s * a[k][q];
          a[k][q] = s * x + c * a[k][q];
          const Real w = v[k][p];
          v[k][p] = c * w - s * v[k][q];
          v[k][q] = s * w + c * v[k][q];
        }
        for (std::size_t k = 0; k < n; ++k) {
          const Real x = a[p][k];
          a[p][k] = c * x - s * a[q][k];
          a[q][k] = s * x + c * a[q][k];
        }
      }
    }
  }
}

double db(Real numerator, Real denominator) {
  return static_cast<double>(10 * std::log10(numerator / denominator));
}

}  // namespace

SeparationOracle separation_oracle(const std::vector<std::vector<double>>& sources,
                                   const std::vector<double>& estimate, std::size_t source) {
  const std::size_t n = sources.size();
  Matrix s;
  for (const auto& x : sources) {
    s.emplace_back(x.begin(), x.end());
    const Real norm = std::sqrt(inner(s.back(), s.back()));
    for (Real& value : s.back()) {
      value /= norm;
    }
  }
  const std::vector<Real> e(estimate.begin(), estimate.end());
  Matrix gram(n, std::vector<Real>(n));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      gram[i][j] = inner(s[i], s[j]);
    }
  }
  Matrix v;
  diagonalise(gram, v);
  // P e = Σ over eigenvectors u of S u (S u · e) / λ, leaving out eigenvalues that are rounding.
  std::vector<Real> projected(e.size(), 0);
  for (std::size_t k = 0; k < n; ++k) {
    if (gram[k][k] < 1e-12L) {
      continue;
    }
    std::vector<Real> direction(e.size(), 0);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t m = 0; m < e.size(); ++m) {
        direction[m] += v[i][k] * s[i][m];
      }
    }
    const Real weight = inner(direction, e) / gram[k][k];
    for (std::size_t m = 0; m < e.size(); ++m) {
      projected[m] += weight * direction[m];
    }
  }
  const Real share = inner(e, s[source]);
  std::vector<Real> target = s[source];
  std::vector<Real> interference = projected;
  std::vector<Real> artifacts = e;
  std::vector<Real> error = e;
  for (std::size_t m = 0; m < e.size(); ++m) {
    target[m] *= share;
    interference[m] -= target[m];
    artifacts[m] -= projected[m];
    error[m] -= target[m];
  }
  return {db(inner(target, target), inner(error, error)),
          db(inner(target, target), inner(interference, interference)),
          db(inner(projected, projected), inner(artifacts, artifacts))};
}

}  // namespace stemfabric::test
