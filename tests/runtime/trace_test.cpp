#include "runtime/profile/trace.h"

#include <gtest/gtest.h>

#include <memory>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

TEST(Trace, CollectsScopesByNameInOrderOfAppearance) {
  { const TraceScope unseen("before"); }
  Trace trace;
  trace.install();
  for (int i = 0; i < 3; ++i) {
    const TraceScope scope("product");
    const TraceScope inner("norm");
  }
  ASSERT_EQ(trace.rows().size(), 2u);
  EXPECT_EQ(trace.rows()[0].name, "norm");  // the inner scope ends first
  EXPECT_EQ(trace.rows()[1].name, "product");
  EXPECT_EQ(trace.rows()[1].calls, 3);
  EXPECT_GE(trace.rows()[1].seconds, trace.rows()[0].seconds);
  trace.clear();
  EXPECT_TRUE(trace.rows().empty());
}

TEST(Trace, OneAtATimeUntilItGoesAway) {
  auto first = std::make_unique<Trace>();
  first->install();
  first->install();  // again is fine
  Trace second;
  EXPECT_THROW(second.install(), InternalError);
  first.reset();
  second.install();
  { const TraceScope scope("now"); }
  EXPECT_EQ(second.rows().size(), 1u);
}

}  // namespace
}  // namespace stemfabric
