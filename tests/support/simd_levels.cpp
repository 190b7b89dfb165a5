#include "tests/support/simd_levels.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <hwy/highway.h>
#include <hwy/targets.h>

namespace stemfabric::test {

void for_each_simd_level(const std::function<void()>& body) {
  struct Restore {
    ~Restore() { hwy::GetChosenTarget().DeInit(); }
  } restore;
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const testing::ScopedTrace trace(__FILE__, __LINE__, hwy::TargetName(target));
    fmt::print("[ SIMD     ] {}\n", hwy::TargetName(target));
    hwy::GetChosenTarget().Update(target);
    body();
  }
}

}  // namespace stemfabric::test
