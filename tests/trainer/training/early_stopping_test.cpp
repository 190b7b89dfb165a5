#include "trainer/training/early_stopping.h"

#include <gtest/gtest.h>

#include <cmath>

namespace stemfabric {
namespace {

TEST(EarlyStopping, StopsAfterPatientEpochsWithoutProgress) {
  EarlyStopping stopping(2, 0.1);
  EXPECT_TRUE(stopping.observe(1.0, 1, 10, 1));
  EXPECT_FALSE(stopping.observe(0.95, 2, 20, 1));  // less than min_delta
  EXPECT_FALSE(stopping.should_stop());
  EXPECT_TRUE(stopping.observe(0.8, 3, 30, 1));
  EXPECT_FALSE(stopping.observe(NAN, 4, 40, 1));
  EXPECT_FALSE(stopping.should_stop());
  EXPECT_FALSE(stopping.observe(0.9, 5, 50, 1));
  EXPECT_TRUE(stopping.should_stop());
  EXPECT_EQ(stopping.state().best_epoch, 3);
  EXPECT_EQ(stopping.state().best_step, 30);
  EXPECT_DOUBLE_EQ(stopping.state().best, 0.8);
}

TEST(EarlyStopping, CountsEpochsNotObservations) {
  EarlyStopping stopping(4, 0);
  stopping.observe(1.0, 2, 2, 2);
  stopping.observe(1.0, 4, 4, 2);
  EXPECT_FALSE(stopping.should_stop());
  stopping.observe(1.0, 6, 6, 2);
  EXPECT_TRUE(stopping.should_stop());
}

TEST(EarlyStopping, PatienceZeroNeverStops) {
  EarlyStopping stopping(0, 0);
  for (int i = 1; i < 100; ++i) {
    stopping.observe(1.0, i, i, 1);
  }
  EXPECT_FALSE(stopping.should_stop());
}

}  // namespace
}  // namespace stemfabric
