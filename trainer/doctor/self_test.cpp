#include "trainer/doctor/self_test.h"

#include <fmt/core.h>

#include <numeric>
#include <vector>

#include "kernels/common/parallel_for.h"
#include "kernels/common/philox.h"

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

}  // namespace

std::vector<SelfTest> self_tests() {
  return {{"threads", "a sum over all threads is right", test_threads}};
}

}  // namespace stemfabric
