#include "trainer/training/training_state.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

TEST(TrainingState, JsonKeepsEveryBit) {
  TrainingState state{.step = 12345678901,
                      .epoch = 7,
                      .step_in_epoch = 3,
                      .optimizer_steps = 12345678900,
                      .skipped_steps = 1,
                      .skipped_in_a_row = 1,
                      .seconds = 0.1 + 0.2,
                      .last_lr = 1.0 / 3.0,
                      .metrics_bytes = uint64_t{1} << 60};
  state.epoch_sums.add({0.1, 1e-300, 3, 4, 5, 1.0 / 7}, {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 0, 1e15});
  state.schedule = {.lr = 1e-3 / 7, .best = INFINITY, .epochs_without_progress = 2};
  state.early_stopping = {
      .best = NAN, .best_epoch = 4, .best_step = 44, .epochs_without_progress = 9};
  state.history.push_back({.epoch = 1,
                           .step = 5,
                           .lr = 0.1,
                           .seconds = 2.5,
                           .train = {.total = -INFINITY, .stem = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}},
                           .validation = LossValues{.total = 1.0 / 9}});
  state.history.push_back({.epoch = 2});
  const std::string text = training_state_to_json(state);
  const TrainingState back = training_state_from_json(text, "test");
  EXPECT_EQ(training_state_to_json(back), text);
  EXPECT_EQ(back.step, state.step);
  EXPECT_EQ(back.metrics_bytes, state.metrics_bytes);
  EXPECT_EQ(back.last_lr, state.last_lr);
  EXPECT_EQ(back.epoch_sums.weighted, state.epoch_sums.weighted);
  EXPECT_EQ(back.schedule, state.schedule);
  EXPECT_TRUE(std::isnan(back.early_stopping.best));
  ASSERT_EQ(back.history.size(), 2U);
  EXPECT_EQ(back.history[0].validation->total, 1.0 / 9);
  EXPECT_FALSE(back.history[1].validation);
}

TEST(TrainingState, RefusesOtherJson) {
  for (const char* text : {"", "{}", "[1]", "{\"step\": \"x\"}"}) {
    try {
      training_state_from_json(text, "state.json");
      FAIL() << text;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("state.json"), std::string::npos);
    }
  }
}

TEST(LossSums, MeanIsWeightedByElements) {
  LossSums sums;
  sums.add({2, 0, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0}, {10, 0, 0, 0, 0, 0});
  sums.add({6, 3, 0, 0, 0, 0}, {3, 3, 0, 0, 0, 0}, {30, 5, 0, 0, 0, 0});
  const LossValues mean = sums.mean();
  EXPECT_DOUBLE_EQ(mean.stem[0], 2.5);
  EXPECT_DOUBLE_EQ(mean.stem[1], 3.0);
  EXPECT_DOUBLE_EQ(mean.stem[2], 0.0);
  EXPECT_DOUBLE_EQ(mean.total, 8.0);
}

}  // namespace
}  // namespace stemfabric
