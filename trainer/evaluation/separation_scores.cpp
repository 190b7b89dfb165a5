#include "trainer/evaluation/separation_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

using Vector = std::vector<double>;

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

// v -= factor · w
void subtract(Vector& v, double factor, std::span<const double> w) {
  for (std::size_t i = 0; i < v.size(); ++i) {
    v[i] -= factor * w[i];
  }
}

// Removes the part of v in the span of an orthonormal basis. Twice is enough to make what is left
// orthogonal to working precision even if almost all of v was in the span.
void remove_span(Vector& v, const std::vector<Vector>& basis) {
  for (int pass = 0; pass < 2; ++pass) {
    for (const Vector& q : basis) {
      subtract(v, dot(q, v), q);
    }
  }
}

double decibels(double numerator, double denominator) {
  if (numerator <= 0) {
    return -kScoreLimitDb;
  }
  if (denominator <= 0) {
    return kScoreLimitDb;
  }
  // Two logarithms: the quotient may leave the range of double.
  return std::clamp(10 * (std::log10(numerator) - std::log10(denominator)), -kScoreLimitDb,
                    kScoreLimitDb);
}

}  // namespace

double overall_score(double sdr, double sir, double sar) {
  const auto n = [](double x) { return std::clamp((x + 20) / 40, 0.0, 1.0); };
  return 0.4 * n(sdr) + 0.4 * n(sir) + 0.2 * n(sar);
}

// Gram–Schmidt with column pivoting on the normalised sources: the next direction is always the
// source that reaches farthest out of the span so far, so the rank is told apart from rounding.
SourceSpace::SourceSpace(std::vector<Vector> sources) : sources_(std::move(sources)) {
  std::vector<Vector> rest;
  for (const Vector& source : sources_) {
    SF_CHECK(source.size() == sources_.front().size(), "sources of different length");
    const double norm = std::sqrt(dot(source, source));
    SF_CHECK(norm > 0, "a silent source");
    rest.push_back(source);
    for (double& value : rest.back()) {
      value /= norm;
    }
  }
  while (!rest.empty()) {
    const auto farthest =
        std::ranges::max_element(rest, {}, [](const Vector& v) { return dot(v, v); });
    const double norm = std::sqrt(dot(*farthest, *farthest));
    if (norm <= kDependentShare) {
      break;
    }
    Vector direction = std::move(*farthest);
    rest.erase(farthest);
    remove_span(direction, basis_);
    const double length = std::sqrt(dot(direction, direction));
    for (double& value : direction) {
      value /= length;
    }
    basis_.push_back(std::move(direction));
    for (Vector& v : rest) {
      remove_span(v, basis_);
    }
  }
}

SeparationScores SourceSpace::score(std::span<const double> estimate, int source) const {
  const Vector& s = sources_.at(static_cast<std::size_t>(source));
  SF_CHECK(estimate.size() == s.size(), "an estimate of {} values for a source of {}",
           estimate.size(), s.size());
  Vector artifacts(estimate.begin(), estimate.end());
  remove_span(artifacts, basis_);
  const double share = dot(estimate, s) / dot(s, s);
  double target = 0;
  double interference = 0;
  double error = 0;
  double explained = 0;
  for (std::size_t k = 0; k < s.size(); ++k) {
    const double t = share * s[k];
    const double projected = estimate[k] - artifacts[k];
    target += t * t;
    interference += (projected - t) * (projected - t);
    error += (estimate[k] - t) * (estimate[k] - t);
    explained += projected * projected;
  }
  SeparationScores scores{};
  scores.sdr = decibels(target, error);
  scores.sar = decibels(explained, dot(artifacts, artifacts));
  const bool single = rank() < 2;
  scores.sir = single ? std::numeric_limits<double>::quiet_NaN() : decibels(target, interference);
  scores.overall = single ? scores.sir : overall_score(scores.sdr, scores.sir, scores.sar);
  return scores;
}

}  // namespace stemfabric
