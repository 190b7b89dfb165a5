#include "trainer/evaluation/separation_scores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/core/check.h"
#include "tests/oracles/separation_oracle.h"

namespace stemfabric {
namespace {

using Vector = std::vector<double>;

Vector noise(std::mt19937_64& random, std::size_t n, double scale) {
  std::normal_distribution<double> normal;
  Vector v(n);
  for (double& x : v) {
    // As stems come: rounded to float32.
    x = static_cast<double>(static_cast<float>(scale * normal(random)));
  }
  return v;
}

void add(Vector& to, double factor, const Vector& v) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] += factor * v[i];
  }
}

void expect_oracle(const std::vector<Vector>& sources, const Vector& estimate, int source) {
  const SeparationScores got = SourceSpace(sources).score(estimate, source);
  const auto want = test::separation_oracle(sources, estimate, static_cast<std::size_t>(source));
  const auto limited = [](double x) { return std::clamp(x, -kScoreLimitDb, kScoreLimitDb); };
  EXPECT_NEAR(got.sdr, limited(want.sdr), 1e-8);
  EXPECT_NEAR(got.sir, limited(want.sir), 1e-8);
  EXPECT_NEAR(got.sar, limited(want.sar), 1e-8);
}

TEST(SeparationScores, ByHand) {
  // Sources along two axes, the estimate 3 of the target, 4 of the other, 12 of neither.
  const SourceSpace space({{2, 0, 0}, {0, 5, 0}});
  const SeparationScores scores = space.score(Vector{3, 4, 12}, 0);
  EXPECT_DOUBLE_EQ(scores.sdr, 10 * std::log10(9.0 / 160));
  EXPECT_DOUBLE_EQ(scores.sir, 10 * std::log10(9.0 / 16));
  EXPECT_DOUBLE_EQ(scores.sar, 10 * std::log10(25.0 / 144));
  EXPECT_DOUBLE_EQ(scores.overall, 0.4 * (scores.sdr + 20) / 40 + 0.4 * (scores.sir + 20) / 40 +
                                       0.2 * (scores.sar + 20) / 40);
  EXPECT_DOUBLE_EQ(overall_score(100, -100, 0), 0.4 + 0.1);
}

TEST(SeparationScores, AgreeWithTheOracle) {
  std::mt19937_64 random(1);
  for (const std::size_t n : {7U, 100U, 3000U}) {
    for (int count = 2; count <= 6; ++count) {
      std::vector<Vector> sources;
      for (int i = 0; i < count; ++i) {
        sources.push_back(noise(random, n, std::pow(10.0, -i)));  // loud and quiet ones
      }
      // Correlated sources too.
      add(sources[0], 0.5, sources[1]);
      for (int i = 0; i < count; ++i) {
        for (const double error : {1.0, 1e-3}) {
          Vector estimate = sources[static_cast<std::size_t>(i)];
          add(estimate, error, noise(random, n, 0.1));
          add(estimate, error, sources[0]);
          expect_oracle(sources, estimate, i);
        }
      }
    }
  }
}

TEST(SeparationScores, DependentSources) {
  std::mt19937_64 random(2);
  std::vector<Vector> sources = {noise(random, 50, 1), noise(random, 50, 1)};
  sources.push_back(sources[0]);
  add(sources[2], 1, sources[1]);
  for (double& x : sources[2]) {
    x = static_cast<double>(static_cast<float>(x));  // the sum, up to rounding
  }
  EXPECT_EQ(SourceSpace(sources).rank(), 2);
  const Vector estimate = noise(random, 50, 1);
  const SeparationScores got = SourceSpace(sources).score(estimate, 2);
  // The span is that of the first two; the third adds nothing but its own rounding.
  const auto want = test::separation_oracle({sources[2], sources[0]}, estimate, 0);
  EXPECT_NEAR(got.sdr, want.sdr, 1e-5);
  EXPECT_NEAR(got.sir, want.sir, 1e-5);
  EXPECT_NEAR(got.sar, want.sar, 1e-5);
}

TEST(SeparationScores, NearlyParallelSources) {
  std::mt19937_64 random(3);
  std::vector<Vector> sources = {noise(random, 200, 1)};
  sources.push_back(sources[0]);
  add(sources[1], 1e-4, noise(random, 200, 1));
  Vector estimate = sources[0];
  add(estimate, 1e-2, noise(random, 200, 1));
  EXPECT_EQ(SourceSpace(sources).rank(), 2);
  const SeparationScores got = SourceSpace(sources).score(estimate, 0);
  const auto want = test::separation_oracle(sources, estimate, 0);
  EXPECT_NEAR(got.sdr, want.sdr, 1e-6);
  EXPECT_NEAR(got.sir, want.sir, 1e-6);
  EXPECT_NEAR(got.sar, want.sar, 1e-6);
}

TEST(SeparationScores, ScaleDoesNotMatter) {
  std::mt19937_64 random(4);
  const std::vector<Vector> sources = {noise(random, 30, 1e-15), noise(random, 30, 1e10)};
  Vector estimate = sources[0];
  add(estimate, 1e-25, sources[1]);
  add(estimate, 1e-16, noise(random, 30, 1));
  expect_oracle(sources, estimate, 0);
  EXPECT_EQ(SourceSpace(sources).rank(), 2);
}

TEST(SeparationScores, Limits) {
  std::mt19937_64 random(5);
  const std::vector<Vector> sources = {noise(random, 20, 1), noise(random, 20, 1)};
  const SourceSpace space(sources);
  const SeparationScores perfect = space.score(sources[0], 0);
  EXPECT_EQ(perfect.sdr, kScoreLimitDb);
  EXPECT_EQ(perfect.sir, kScoreLimitDb);
  EXPECT_EQ(perfect.sar, kScoreLimitDb);
  EXPECT_EQ(perfect.overall, 1.0);
  const SeparationScores silent = space.score(Vector(20, 0.0), 0);
  EXPECT_EQ(silent.sdr, -kScoreLimitDb);
  EXPECT_EQ(silent.sir, -kScoreLimitDb);
  EXPECT_EQ(silent.sar, -kScoreLimitDb);
  EXPECT_EQ(silent.overall, 0.0);
  // The sum of all sources has no artifacts.
  Vector mixture = sources[0];
  add(mixture, 1, sources[1]);
  EXPECT_EQ(space.score(mixture, 0).sar, kScoreLimitDb);
  EXPECT_LT(std::abs(space.score(mixture, 0).sdr), 20);
  // One source: nothing to interfere.
  const SeparationScores alone = SourceSpace({sources[0]}).score(mixture, 0);
  EXPECT_TRUE(std::isnan(alone.sir));
  EXPECT_TRUE(std::isnan(alone.overall));
  EXPECT_FALSE(std::isnan(alone.sdr));
  EXPECT_THROW(SourceSpace({Vector(3, 0.0)}), InternalError);
}

}  // namespace
}  // namespace stemfabric
