#include "trainer/separation/chunk_plan.h"

#include <gtest/gtest.h>

#include <vector>

namespace stemfabric {
namespace {

TEST(ChunkPlan, EveryFrameIsWeighedAndNoBorderCounts) {
  for (const int64_t frames : {1, 2, 7, 64, 65, 66, 129, 130, 200, 1000}) {
    for (const int64_t chunk : {1, 2, 16, 65, 129}) {
      for (const int64_t overlap : {1, 2, 3, 16}) {
        const ChunkPlan plan(frames, chunk, overlap);
        std::vector<double> sum(static_cast<std::size_t>(frames));
        int64_t complete = 0;
        for (int64_t k = 0; k < plan.chunks(); ++k) {
          const int64_t first = plan.first_frame(k);
          ASSERT_GE(first, 0);
          ASSERT_LE(first + plan.chunk_frames(), frames);
          for (int64_t i = 0; i < plan.chunk_frames(); ++i) {
            const double weight = plan.weight(k, i);
            if (first + i < complete) {
              ASSERT_EQ(weight, 0) << "frame " << first + i << " was complete";
            }
            sum[static_cast<std::size_t>(first + i)] += weight;
          }
          if (first > 0 && plan.margin() > 0) {
            EXPECT_EQ(plan.weight(k, plan.margin() - 1), 0);
          }
          if (first + plan.chunk_frames() < frames && plan.margin() > 0) {
            EXPECT_EQ(plan.weight(k, plan.chunk_frames() - plan.margin()), 0);
          }
          complete = plan.complete_after(k);
          for (int64_t t = 0; t < complete; ++t) {
            ASSERT_GT(sum[static_cast<std::size_t>(t)], 0)
                << frames << " frames in chunks of " << chunk << ", overlap " << overlap
                << ": frame " << t << " is in none";
          }
        }
        EXPECT_EQ(complete, frames);
      }
    }
  }
}

TEST(ChunkPlan, OneChunkForAShortSignal) {
  const ChunkPlan plan(50, 129, 2);
  EXPECT_EQ(plan.chunks(), 1);
  EXPECT_EQ(plan.chunk_frames(), 50);
  EXPECT_EQ(plan.weight(0, 0), plan.weight(0, 25));  // the ends of the signal are no borders
}

TEST(ChunkPlan, OverlapIsTheNumberOfChunksOverAFrame) {
  const ChunkPlan plan(10000, 129, 4);
  int64_t over = 0;
  for (int64_t k = 0; k < plan.chunks(); ++k) {
    const int64_t i = 5000 - plan.first_frame(k);
    over += i >= 0 && i < plan.chunk_frames() && plan.weight(k, i) > 0 ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(over), 4, 1);
}

}  // namespace
}  // namespace stemfabric
