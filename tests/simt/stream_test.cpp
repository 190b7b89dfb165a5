// Work of a stream is done when it is waited for and no earlier: what forgets to wait must fail
// here as it may on a GPU.
#include "tests/simt/simt_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/standardize/standardize.h"
#include "runtime/memory/buffer.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

using testing::ElementsAre;
using Floats = std::vector<float>;

ExecutionContext simt_device() {
  static SimtHostMemory memory;
  static SimtStagingMemory staging;
  return {std::make_unique<SimtStream>(), {.threads = 1, .resource = &memory, .staging = &staging}};
}

// x = 1, 2, 3, 4 and what makes y of it: y = (x − 0) · scale.
struct Standardized {
  explicit Standardized(const ExecutionContext& ctx)
      : x(Shape{1, 4}, DType::kF32, ctx.resource()),
        mean(Shape{4}, DType::kF32, ctx.resource()),
        scale(Shape{4}, DType::kF32, ctx.resource()),
        y(Shape{1, 4}, DType::kF32, ctx.resource()) {}
  void run(const ExecutionContext& ctx) {
    standardize(ctx, {.x = x.view(), .mean = mean.view(), .scale = scale.view(), .y = y.view()});
  }
  Tensor x, mean, scale, y;
};

TEST(SimtStream, RunsCopiesFillsAndKernelsInOrderWhenItIsWaitedFor) {
  const ExecutionContext ctx = simt_device();
  Standardized s(ctx);
  const Floats from = {1, 2, 3, 4}, factors = {2, 2, 2, 2};
  Floats first(4), second(4);
  Stream& stream = ctx.stream();
  stream.copy(s.x.view().data(), from.data(), s.x.bytes());
  stream.fill(s.mean.view().data(), 0, s.mean.bytes());
  stream.copy(s.scale.view().data(), factors.data(), s.scale.bytes());
  s.run(ctx);
  stream.copy(first.data(), s.y.view().data(), s.y.bytes());
  stream.copy(s.x.view().data(), s.y.view().data(), s.y.bytes());
  s.run(ctx);
  stream.copy(second.data(), s.y.view().data(), s.y.bytes());
  EXPECT_THAT(first, ElementsAre(0, 0, 0, 0)) << "a result was there before it was waited for";
  stream.synchronize();
  EXPECT_THAT(first, ElementsAre(2, 4, 6, 8));
  EXPECT_THAT(second, ElementsAre(4, 8, 12, 16));
}

TEST(SimtStream, HostMemoryThatIsOverwrittenBeforeItsCopyRanSpoilsTheResult) {
  const ExecutionContext ctx = simt_device();
  Tensor there({2}, DType::kF32, ctx.resource());
  Floats from = {1, 2}, back(2);
  ctx.stream().copy(there.view().data(), from.data(), there.bytes());
  from = {3, 4};
  ctx.stream().copy(back.data(), there.view().data(), there.bytes());
  ctx.stream().synchronize();
  EXPECT_THAT(back, ElementsAre(3, 4));
}

TEST(SimtStream, HostMemoryThatIsGivenBackBeforeItsCopyRanSpoilsTheResult) {
  const ExecutionContext ctx = simt_device();
  Tensor there({2}, DType::kF32, ctx.resource());
  Floats back(2);
  {
    Tensor from({2}, DType::kF32, ctx.staging());
    from.as<float>()[0] = from.as<float>()[1] = 1;
    ctx.stream().copy(there.view().data(), from.view().data(), there.bytes());
  }
  ctx.stream().copy(back.data(), there.view().data(), there.bytes());
  ctx.stream().synchronize();
  EXPECT_TRUE(std::isnan(back[0]) && std::isnan(back[1]));
}

TEST(SimtStream, AnEventWaitsForWhatCameBeforeItAlone) {
  const ExecutionContext ctx = simt_device();
  Tensor there({1}, DType::kF32, ctx.resource());
  float before = 0, after = 0;
  ctx.stream().fill(there.view().data(), 0xFF, there.bytes());
  ctx.stream().copy(&before, there.view().data(), sizeof before);
  const auto event = ctx.stream().record();
  ctx.stream().copy(&after, there.view().data(), sizeof after);
  event->synchronize();
  EXPECT_TRUE(std::isnan(before));
  EXPECT_EQ(after, 0);
  const auto later = ctx.stream().record();
  EXPECT_THROW(static_cast<void>(later->seconds_since(*event)), InternalError);
  later->synchronize();
  EXPECT_TRUE(std::isnan(after));
  EXPECT_GE(later->seconds_since(*event), 0);
}

TEST(SimtStream, WithoutAWaitAStreamDoesNotSeeAnothersWork) {
  const ExecutionContext ctx = simt_device();
  SimtStream other;
  Tensor there({1}, DType::kF32, ctx.resource());
  const float one = 1, two = 2;
  float without = 0, with = 0;
  ctx.stream().copy(there.view().data(), &one, sizeof one);
  ctx.stream().synchronize();
  other.copy(there.view().data(), &two, sizeof two);
  const auto event = other.record();
  ctx.stream().copy(&without, there.view().data(), sizeof without);
  ctx.stream().synchronize();
  EXPECT_EQ(without, 1);
  ctx.stream().wait(*event);
  ctx.stream().copy(&with, there.view().data(), sizeof with);
  ctx.stream().synchronize();
  EXPECT_EQ(with, 2);
}

TEST(SimtStream, ACapturedGraphDoesItsWorkAtEachLaunch) {
  const ExecutionContext ctx = simt_device();
  Standardized s(ctx);
  Floats from = {1, 2, 3, 4}, back(4);
  const Floats factors = {2, 2, 2, 2};
  Stream& stream = ctx.stream();
  ASSERT_TRUE(stream.can_capture());
  stream.fill(s.mean.view().data(), 0, s.mean.bytes());
  stream.copy(s.scale.view().data(), factors.data(), s.scale.bytes());
  const auto graph = stream.capture([&] {
    stream.copy(s.x.view().data(), from.data(), s.x.bytes());
    s.run(ctx);
    stream.copy(back.data(), s.y.view().data(), s.y.bytes());
  });
  stream.synchronize();
  EXPECT_THAT(back, ElementsAre(0, 0, 0, 0)) << "captured work was done";
  graph->launch();
  stream.synchronize();
  EXPECT_THAT(back, ElementsAre(2, 4, 6, 8));
  from = {4, 3, 2, 1};
  graph->launch();
  EXPECT_THAT(back, ElementsAre(2, 4, 6, 8));
  stream.synchronize();
  EXPECT_THAT(back, ElementsAre(8, 6, 4, 2));
}

TEST(SimtStream, NothingIsWaitedForWhileWorkIsCaptured) {
  const ExecutionContext ctx = simt_device();
  Stream& stream = ctx.stream();
  const auto event = stream.record();
  EXPECT_THROW(stream.capture([&] { stream.synchronize(); }), InternalError);
  EXPECT_THROW(stream.capture([&] { stream.record(); }), InternalError);
  EXPECT_THROW(stream.capture([&] { stream.wait(*event); }), InternalError);
  stream.synchronize();  // none of them is going on
}

TEST(SimtStream, StreamsThatFollowEachOtherWorkInThatOrderAlsoInAGraph) {
  SimtStream first;
  const auto second = first.another();
  int from = 1, between = 0, to = 0;
  const auto work = [&] {
    first.copy(&between, &from, sizeof from);
    second->follow(first);
    second->copy(&to, &between, sizeof to);
    first.follow(*second);
    first.fill(&between, 0, sizeof between);
  };
  work();
  EXPECT_EQ(to, 0) << "something was waited for";
  first.synchronize();
  EXPECT_EQ(to, 1);
  EXPECT_EQ(between, 0);
  const auto graph = first.capture(work);
  from = 2;
  graph->launch();
  EXPECT_EQ(to, 1) << "something was waited for";
  first.synchronize();
  EXPECT_EQ(to, 2);
  EXPECT_EQ(between, 0);
}

TEST(SimtStream, ACaptureEndsWhereItBeganWithAllStreamsFollowed) {
  SimtStream first;
  const auto second = first.another();
  int value = 0;
  EXPECT_THROW(first.capture([&] {
    second->follow(first);
    second->fill(&value, 0, sizeof value);
  }),
               InternalError);
  EXPECT_THROW(first.capture([&] { first.follow(*second); }), InternalError);
  second->fill(&value, 1, 1);  // neither is captured any more
  first.follow(*second);
  first.synchronize();
  EXPECT_EQ(value, 1);
}

TEST(SimtStream, WorkThatHasToWaitIsTriedAgain) {
  SimtStream stream;
  int tries = 0;
  simt::Queue::of(stream).push_attempt([&] { return ++tries > 3; });
  const auto event = stream.record();
  EXPECT_FALSE(event->done());
  EXPECT_EQ(tries, 1);
  EXPECT_FALSE(event->done());
  event->synchronize();
  EXPECT_EQ(tries, 4);
  EXPECT_TRUE(event->done());
}

// As with cudaFree.
TEST(SimtStream, MemoryOfTheDeviceIsGivenBackAfterTheWorkThatUsesIt) {
  const ExecutionContext ctx = simt_device();
  float back = 0;
  {
    Tensor there({1}, DType::kF32, ctx.resource());
    ctx.stream().fill(there.view().data(), 0, there.bytes());
    back = 1;
    ctx.stream().copy(&back, there.view().data(), sizeof back);
  }
  EXPECT_EQ(back, 0);
}

}  // namespace
}  // namespace stemfabric::test
