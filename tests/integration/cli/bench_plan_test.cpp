// `stemfabric bench --plan`: the counted work of a training step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/integration/stemfabric.h"

namespace stemfabric::test {
namespace {

using testing::HasSubstr;

TEST(BenchPlan, TellsEveryKernelsWorkAndFloor) {
  const auto table = run_stemfabric(
      {"bench", "--plan", "--tokens", "64", "--tflops", "100", "--gb-per-s", "1000"});
  ASSERT_EQ(table.status, 0) << table.err;
  for (const char* part :
       {"attention, gradient", "adam", "whole step", "floor us", "ours us", "memory"}) {
    EXPECT_THAT(table.out, HasSubstr(part));
  }
  const auto counted = run_stemfabric({"bench", "--plan", "--tokens", "64", "--json"});
  const auto timed = run_stemfabric(
      {"bench", "--plan", "--tokens", "64", "--json", "--tflops", "100", "--gb-per-s", "1000"});
  const auto without = nlohmann::json::parse(counted.out).at("kernels");
  const auto with = nlohmann::json::parse(timed.out).at("kernels");
  ASSERT_EQ(without.size(), with.size());
  for (std::size_t i = 0; i < with.size(); ++i) {
    EXPECT_FALSE(without[i].contains("floor_us"));
    const double calls = with[i].at("calls");
    const double arithmetic = calls * with[i].at("flops").get<double>() / 100e12 * 1e6;
    const double ours = calls * with[i].at("our_flops").get<double>() / 100e12 * 1e6;
    const double memory = calls * with[i].at("bytes").get<double>() / 1000e9 * 1e6;
    EXPECT_DOUBLE_EQ(with[i].at("floor_us"), std::max(arithmetic, memory)) << with[i];
    EXPECT_DOUBLE_EQ(with[i].at("our_floor_us"), std::max(ours, memory)) << with[i];
    EXPECT_EQ(with[i].at("bound_by"), arithmetic > memory ? "arithmetic" : "memory") << with[i];
  }
}

TEST(BenchPlan, AModelOfMasksIsAsLongAsItsChunks) {
  const auto plan = [](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"bench", "--plan", "--set", "model.mask=real"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_stemfabric(arguments);
  };
  const auto chunk = plan({"--set", "audio.chunk_size=102400"});
  ASSERT_EQ(chunk.status, 0) << chunk.err;
  EXPECT_THAT(chunk.out, HasSubstr("samples of 101 tokens"));
  EXPECT_THAT(chunk.out, HasSubstr("stft, stems"));
  EXPECT_THAT(chunk.out, HasSubstr("mask loss"));
  EXPECT_THAT(plan({"--tokens", "40"}).out, HasSubstr("samples of 40 tokens"));
}

}  // namespace
}  // namespace stemfabric::test
