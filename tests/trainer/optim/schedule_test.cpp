#include "trainer/optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace stemfabric {
namespace {

TEST(Schedule, ConstantAfterLinearWarmUp) {
  const Schedule schedule({.kind = ScheduleKind::kConstant, .lr = 0.8, .warmup_steps = 4});
  EXPECT_DOUBLE_EQ(schedule.lr(0), 0.2);
  EXPECT_DOUBLE_EQ(schedule.lr(1), 0.4);
  EXPECT_DOUBLE_EQ(schedule.lr(3), 0.8);
  EXPECT_DOUBLE_EQ(schedule.lr(4), 0.8);
  EXPECT_DOUBLE_EQ(schedule.lr(1000), 0.8);
}

TEST(Schedule, CosineFallsFromTheRateToTheFloor) {
  const Schedule schedule({.kind = ScheduleKind::kCosine,
                           .lr = 1.0,
                           .min_lr = 0.1,
                           .warmup_steps = 10,
                           .total_steps = 110});
  EXPECT_DOUBLE_EQ(schedule.lr(4), 0.5);
  EXPECT_DOUBLE_EQ(schedule.lr(10), 1.0);
  EXPECT_DOUBLE_EQ(schedule.lr(35), 0.1 + 0.45 * (1 + std::cos(std::numbers::pi / 4)));
  EXPECT_NEAR(schedule.lr(60), 0.55, 1e-15);
  EXPECT_DOUBLE_EQ(schedule.lr(110), 0.1);
  EXPECT_DOUBLE_EQ(schedule.lr(5000), 0.1);
}

TEST(Schedule, PlateauLowersTheRateAfterPatientEpochs) {
  Schedule schedule({.kind = ScheduleKind::kPlateau,
                     .lr = 1.0,
                     .min_lr = 0.2,
                     .reduce_factor = 0.5,
                     .reduce_patience = 2,
                     .min_delta = 0.1});
  EXPECT_FALSE(schedule.observe(1.0, 1));   // the first is always progress
  EXPECT_FALSE(schedule.observe(0.95, 1));  // less than min_delta better
  EXPECT_FALSE(schedule.observe(0.85, 1));  // progress
  EXPECT_FALSE(schedule.observe(0.85, 1));
  EXPECT_TRUE(schedule.observe(2.0, 1));
  EXPECT_DOUBLE_EQ(schedule.lr(7), 0.5);
  EXPECT_TRUE(schedule.observe(2.0, 2));  // two epochs at once
  EXPECT_DOUBLE_EQ(schedule.lr(7), 0.25);
  EXPECT_TRUE(schedule.observe(NAN, 2));
  EXPECT_DOUBLE_EQ(schedule.lr(7), 0.2);
  EXPECT_FALSE(schedule.observe(2.0, 2));  // at the floor
  EXPECT_DOUBLE_EQ(schedule.lr(7), 0.2);
}

TEST(Schedule, AFloorAboveTheRateDoesNotRaiseIt) {
  Schedule schedule({.kind = ScheduleKind::kPlateau,
                     .lr = 1e-3,
                     .min_lr = 1e-2,
                     .reduce_factor = 0.5,
                     .reduce_patience = 1});
  schedule.observe(1.0, 1);
  EXPECT_FALSE(schedule.observe(1.0, 1));
  EXPECT_DOUBLE_EQ(schedule.lr(0), 1e-3);
}

TEST(Schedule, RestoredStateGoesOnTheSame) {
  const Schedule::Options options{
      .kind = ScheduleKind::kPlateau, .lr = 1.0, .reduce_factor = 0.5, .reduce_patience = 3};
  const double losses[] = {3, 2, 2.5, 2.6, 2.1, 1.9, 1.9, 1.9, 1.9};
  for (int cut = 0; cut < 9; ++cut) {
    Schedule first(options);
    Schedule second(options);
    Schedule undisturbed(options);
    for (int i = 0; i < 9; ++i) {
      undisturbed.observe(losses[i], 1);
      if (i == cut) {
        second.restore(first.state());
      }
      (i < cut ? first : second).observe(losses[i], 1);
    }
    EXPECT_EQ(second.state(), undisturbed.state()) << "cut before " << cut;
  }
}

}  // namespace
}  // namespace stemfabric
