#include "runtime/profile/trace.h"

#include <gtest/gtest.h>

#include <memory>

#include "runtime/core/check.h"
#include "runtime/device/stream.h"

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

// A stream of a GPU whose clock is moved by hand; an event's time is known once it was waited for.
class QueuedStream final : public Stream {
 public:
  QueuedStream() : Stream({DeviceKind::kCuda, 0}) {}
  void take(double seconds) { now_ += seconds; }  // queues work that takes so long
  int waits() const { return waits_; }

  void synchronize() override {}
  std::unique_ptr<Event> record() override {
    if (fails) {
      throw DeviceError("lost");
    }
    return std::make_unique<Mark>(*this, now_);
  }
  void wait(const Event& /*event*/) override {}
  void follow(Stream& /*other*/) override {}
  std::unique_ptr<Stream> another() const override { return nullptr; }
  void copy(void* /*to*/, const void* /*from*/, std::size_t /*bytes*/) override {}
  void fill(void* /*at*/, unsigned char /*byte*/, std::size_t /*bytes*/) override {}
  bool fails = false;

 private:
  class Mark final : public Event {
   public:
    Mark(QueuedStream& stream, double time) : stream_(stream), time_(time) {}
    void synchronize() override {
      ++stream_.waits_;
      done_ = true;
    }
    bool done() override { return done_; }
    double seconds_since(const Event& earlier) const override {
      EXPECT_TRUE(done_) << "an event was read that nobody has waited for";
      return time_ - dynamic_cast<const Mark&>(earlier).time_;
    }

   private:
    QueuedStream& stream_;
    double time_;
    bool done_ = false;
  };
  double now_ = 0;
  int waits_ = 0;
};

TEST(Trace, OnAStreamTimesWhatWasQueuedWhenItIsAsked) {
  QueuedStream stream;
  Trace trace;
  trace.install(stream);
  for (int i = 0; i < 2; ++i) {
    const TraceScope scope("product");
    stream.take(0.25);
    {
      const TraceScope inner("norm");
      stream.take(2);
    }
  }
  EXPECT_EQ(stream.waits(), 0) << "the host would not run ahead";
  trace.uninstall();
  { const TraceScope unseen("after"); }
  for (int asked = 0; asked < 2; ++asked) {  // the second time there is nothing new
    ASSERT_EQ(trace.rows().size(), 2u);
    EXPECT_EQ(trace.rows()[0].name, "norm");
    EXPECT_EQ(trace.rows()[0].seconds, 4.0);
    EXPECT_EQ(trace.rows()[1].seconds, 4.5);
    EXPECT_EQ(trace.rows()[1].calls, 2);
  }
}

// The next wait for the stream tells of it; a scope must not end the program before.
TEST(Trace, AScopeWhoseStreamFailsIsNotCounted) {
  QueuedStream stream;
  Trace trace;
  trace.install(stream);
  {
    const TraceScope scope("product");
    stream.fails = true;
  }
  EXPECT_TRUE(trace.rows().empty());
}

TEST(Trace, OnTheCpusStreamTheClockTells) {
  const auto stream = make_stream({});
  Trace trace;
  trace.install(*stream);
  { const TraceScope scope("product"); }
  ASSERT_EQ(trace.rows().size(), 1u);
  EXPECT_EQ(trace.rows()[0].calls, 1);
}

}  // namespace
}  // namespace stemfabric
