// Every fuzz target over its seeds, over inputs that libFuzzer once found (regressions/), and over
// seeded mutations of the seeds.
#include <gtest/gtest.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>

#include "runtime/io/file.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/mutations.h"
#include "tests/support/paths.h"

namespace stemfabric::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr const FuzzTarget* kTargets[] = {&kAudioFile,   &kAudioManifest, &kCheckpointState,
                                          &kConfigJson,  &kConfigYaml,    &kDatasetManifest,
                                          &kHttp,        &kNpy,           &kRecord,
                                          &kSafetensors, &kSnapshot,      &kStemMap,
                                          &kTrackTable,  &kWeights};

// Mutations per target; STEMFABRIC_FUZZ_ROUNDS asks for more.
int rounds_per_target() {
  const char* asked = std::getenv("STEMFABRIC_FUZZ_ROUNDS");
  return asked == nullptr ? 400 : std::atoi(asked);
}

class Fuzz : public testing::TestWithParam<const FuzzTarget*> {};

TEST_P(Fuzz, SeedsAndOldFindings) {
  const FuzzTarget& target = *GetParam();
  const std::vector<std::string> seeds = target.seeds();
  EXPECT_TRUE(std::ranges::any_of(seeds, [&](const std::string& seed) {
    return accepts(target, seed);
  })) << "every seed is refused: nothing behind the first check is reached";
  const fs::path folder = test::data_dir() / "fuzz" / target.name;
  if (fs::exists(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      SCOPED_TRACE(entry.path().string());
      EXPECT_NO_THROW(accepts(target, read_text_file(entry.path())));
    }
  }
}

TEST_P(Fuzz, MutationsOfTheSeeds) {
  const FuzzTarget& target = *GetParam();
  const std::vector<std::string> seeds = target.seeds();
  test::MutationCounts counts;
  const int rounds = std::max(1, rounds_per_target() / static_cast<int>(seeds.size()));
  for (std::size_t s = 0; s < seeds.size(); ++s) {
    const auto seed_counts = test::read_mutated(
        kSource, seeds[s],
        {.seed = static_cast<uint32_t>(s), .rounds = rounds, .kind = target.refusal},
        [&](const std::string& damaged) { target.read(damaged); });
    counts.accepted += seed_counts.accepted;
    counts.refused += seed_counts.refused;
  }
  EXPECT_GT(counts.accepted, 0);
  EXPECT_GT(counts.refused, 0);
}

// libFuzzer sends its process a signal every few seconds; here it is one a millisecond.
TEST(FuzzSignals, AreNoFindingsOfHttp) {
  static std::atomic<int> signals;
  signals = 0;
  struct sigaction action = {};
  action.sa_handler = [](int) { ++signals; };
  struct sigaction previous = {};
  ASSERT_EQ(::sigaction(SIGALRM, &action, &previous), 0);
  constexpr timeval kMillisecond = {.tv_sec = 0, .tv_usec = 1000};
  const itimerval often = {.it_interval = kMillisecond, .it_value = kMillisecond};
  const itimerval never = {};
  const std::vector<std::string> seeds = kHttp.seeds();
  ASSERT_EQ(::setitimer(ITIMER_REAL, &often, nullptr), 0);
  while (signals < 100 && !HasFailure()) {
    for (const std::string& seed : seeds) {
      EXPECT_NO_THROW(accepts(kHttp, seed));
    }
  }
  ::setitimer(ITIMER_REAL, &never, nullptr);
  ::sigaction(SIGALRM, &previous, nullptr);
}

INSTANTIATE_TEST_SUITE_P(Targets, Fuzz, testing::ValuesIn(kTargets),
                         [](const auto& target) { return std::string(target.param->name); });

}  // namespace
}  // namespace stemfabric::fuzz
