#include "tests/support/simd_levels.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <hwy/highway.h>
#include <hwy/targets.h>

#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

void for_each_alignment(const std::function<void()>& body) {
  struct Restore {
    ~Restore() { set_first_element(1); }
  } restore;
  for (const int first : {1, 0}) {
    const testing::ScopedTrace trace(__FILE__, __LINE__, first == 0 ? "aligned" : "misaligned");
    set_first_element(first);
    body();
  }
}

}  // namespace

AlignedTensors::AlignedTensors() { set_first_element(0); }
AlignedTensors::~AlignedTensors() { set_first_element(1); }

void at_lowest_simd_level(const std::function<void()>& body) {
  struct Restore {
    ~Restore() { hwy::GetChosenTarget().DeInit(); }
  } restore;
  hwy::GetChosenTarget().Update(hwy::SupportedAndGeneratedTargets().back());
  body();
}

void for_each_simd_level(const std::function<void()>& body) {
  if (!test_context().is_cpu()) {
    for_each_alignment(body);
    return;
  }
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
