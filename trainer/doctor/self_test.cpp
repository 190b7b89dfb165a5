#include "trainer/doctor/self_test.h"

#include <fmt/core.h>

#include <numeric>
#include <vector>

#include "kernels/common/parallel_for.h"
#include "kernels/linear/linear.h"

namespace stemfabric {
namespace {

// Every thread takes part in a sum whose result is known.
std::string test_threads() {
  const ExecutionContext ctx;
  constexpr int64_t kBlocks = 257;
  std::vector<int64_t> partial(kBlocks);
  parallel_for(ctx, kBlocks * 100, 100, [&](int64_t begin, int64_t end, int64_t block) {
    for (int64_t i = begin; i < end; ++i) {
      partial[static_cast<std::size_t>(block)] += i;
    }
  });
  const int64_t sum = std::accumulate(partial.begin(), partial.end(), int64_t{0});
  const int64_t n = kBlocks * 100;
  return sum == n * (n - 1) / 2 ? "" : fmt::format("the threads' sum is {}, not {}", sum, n);
}

// Small whole numbers: every product and sum is exact in float32, whatever the order.
std::string test_linear() {
  constexpr int64_t kM = 37;
  constexpr int64_t kK = 65;
  constexpr int64_t kN = 50;
  const auto number = [](int64_t i) { return static_cast<float>(i * 7 % 13 - 6); };
  std::vector<float> x(kM * kK);
  std::vector<float> kernel(kK * kN);
  std::vector<float> y(kM * kN);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = number(static_cast<int64_t>(i));
  }
  for (std::size_t i = 0; i < kernel.size(); ++i) {
    kernel[i] = number(static_cast<int64_t>(3 * i + 1));
  }
  const ExecutionContext ctx;
  linear_forward(
      ctx,
      {.x = {x.data(), {kM, kK}}, .kernel = {kernel.data(), {kK, kN}}, .y = {y.data(), {kM, kN}}});
  for (std::size_t m = 0; m < kM; ++m) {
    for (std::size_t n = 0; n < kN; ++n) {
      float expected = 0;
      for (std::size_t k = 0; k < kK; ++k) {
        expected += x[m * kK + k] * kernel[k * kN + n];
      }
      if (y[m * kN + n] != expected) {
        return fmt::format("matrix product: element ({}, {}) is {}, not {}", m, n, y[m * kN + n],
                           expected);
      }
    }
  }
  return "";
}

}  // namespace

std::vector<SelfTest> self_tests() {
  return {{"threads", "a sum over all threads is right", test_threads},
          {"linear", "a matrix product equals the naive sum exactly", test_linear}};
}

}  // namespace stemfabric
