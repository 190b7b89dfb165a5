#include "tests/support/tolerance.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>

namespace stemfabric::test {
namespace {

struct Measure {
  double max = 0;
  double rms = 0;
};

double part_of(double error, double bound) {
  return error == 0 ? 0.0 : bound == 0 ? std::numeric_limits<double>::infinity() : error / bound;
}

struct Comparison {
  Measure error, bound;
  std::string broken_rule;  // about sizes, NaN and infinities; empty if they are right
  double share() const {
    return broken_rule.empty()
               ? std::max(part_of(error.max, bound.max), part_of(error.rms, bound.rms))
               : std::numeric_limits<double>::infinity();
  }
};

// Over the elements where both arguments are finite.
Measure distance(std::span<const double> a, std::span<const double> b) {
  Measure m;
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isfinite(a[i]) && std::isfinite(b[i])) {
      const double d = std::abs(a[i] - b[i]);
      m.max = std::max(m.max, d);
      sum += d * d;
      ++count;
    }
  }
  m.rms = count == 0 ? 0 : std::sqrt(sum / static_cast<double>(count));
  return m;
}

std::string broken_rule(std::span<const double> result, std::span<const double> oracle) {
  for (std::size_t i = 0; i < oracle.size(); ++i) {
    const bool same = std::isnan(oracle[i])   ? std::isnan(result[i])
                      : std::isinf(oracle[i]) ? result[i] == oracle[i]
                                              : std::isfinite(result[i]);
    if (!same) {
      return fmt::format("element {} is {}, the oracle says {}", i, result[i], oracle[i]);
    }
  }
  return {};
}

Comparison compare(std::span<const double> result, std::span<const double> naive,
                   std::span<const double> oracle, Floor floor) {
  Comparison c;
  if (result.size() != oracle.size() || naive.size() != oracle.size()) {
    c.broken_rule = fmt::format("{} results, {} naive results, {} oracle values", result.size(),
                                naive.size(), oracle.size());
    return c;
  }
  c.broken_rule = broken_rule(result, oracle);
  c.error = distance(result, oracle);
  const Measure allowed = distance(naive, oracle);
  const Measure size = distance(oracle, std::vector<double>(oracle.size(), 0.0));
  c.bound.max = 2 * allowed.max + floor.ulps * 0x1p-24 * size.max + floor.absolute;
  c.bound.rms = 2 * allowed.rms + floor.ulps * 0x1p-24 * size.rms + floor.absolute;
  return c;
}

// The largest share of this test so far under this name: a test that checks many cases records its
// worst one.
double worst_so_far(const std::string& what, double share) {
  static std::map<std::string, double> worst;
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const std::string key =
      test == nullptr ? what : fmt::format("{}.{}/{}", test->test_suite_name(), test->name(), what);
  return worst[key] = std::max(worst[key], share);
}

}  // namespace

void expect_within_bound(const std::string& what, std::span<const double> result,
                         std::span<const double> naive, std::span<const double> oracle,
                         Floor floor) {
  const Comparison c = compare(result, naive, oracle, floor);
  const std::string line =
      fmt::format("{}: max {:.2g} of {:.2g} ({:.0f} %), rms {:.2g} of {:.2g} ({:.0f} %)", what,
                  c.error.max, c.bound.max, 100 * part_of(c.error.max, c.bound.max), c.error.rms,
                  c.bound.rms, 100 * part_of(c.error.rms, c.bound.rms));
  fmt::print("[ BOUND    ] {}\n", line);
  testing::Test::RecordProperty("bound_share_" + what,
                                fmt::format("{:.3f}", worst_so_far(what, c.share())));
  EXPECT_EQ(c.broken_rule, "") << what;
  EXPECT_LE(c.share(), 1.0) << line;
}

double share_of_bound(std::span<const double> result, std::span<const double> naive,
                      std::span<const double> oracle, Floor floor) {
  return compare(result, naive, oracle, floor).share();
}

}  // namespace stemfabric::test
