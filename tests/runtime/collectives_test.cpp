#include "runtime/collectives/collectives.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <numeric>
#include <thread>

#include "runtime/collectives/mpi_transport.h"
#include "runtime/core/bf16.h"
#include "runtime/core/check.h"
#include "tests/support/thread_ranks.h"

namespace stemfabric {
namespace {

using test::run_on_ranks;
using testing::AllOf;
using testing::HasSubstr;

const Collectives::Options kOrdered{.timeout_s = 300, .ordered = true, .interrupted = {}};

template <typename T>
TensorView view(std::vector<T>& values) {
  return {values.data(), kDTypeOf<T>, Shape{static_cast<int64_t>(values.size())}};
}

// Values whose sum depends on the order in which they are added.
std::vector<float> values_of(int rank, int64_t n) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    values.push_back(rank % 2 == 0 ? 1e8F + static_cast<float>(i)
                                   : 0.37F * static_cast<float>(i + rank));
  }
  return values;
}

TEST(Collectives, OrderedSumsAddInTheOrderOfTheRanks) {
  for (const int size : {1, 2, 3, 4, 7}) {
    for (const int64_t n : {1, 2, 5, 64, 1001}) {
      std::vector<float> expected = values_of(0, n);
      for (int r = 1; r < size; ++r) {
        const std::vector<float> part = values_of(r, n);
        for (std::size_t i = 0; i < part.size(); ++i) {
          expected[i] += part[i];
        }
      }
      run_on_ranks(size, kOrdered, [&](Collectives& ranks) {
        std::vector<float> data = values_of(ranks.rank(), n);
        ranks.all_reduce(view(data), "a sum");
        ASSERT_EQ(data, expected) << size << " ranks, " << n << " values, rank " << ranks.rank();
      });
    }
  }
}

TEST(Collectives, SumsAreExactInEveryTypeAndOrder) {
  for (const bool ordered : {true, false}) {
    run_on_ranks(3, {.timeout_s = 300, .ordered = ordered, .interrupted = {}},
                 [](Collectives& ranks) {
                   std::vector<int64_t> whole = {int64_t{1} << 60, -ranks.rank()};
                   std::vector<double> real = {0.5, ranks.rank() + 0.25};
                   ranks.all_reduce(view(whole), "whole numbers");
                   ranks.all_reduce(std::span(real), "real numbers");
                   EXPECT_THAT(whole, testing::ElementsAre(3 * (int64_t{1} << 60), -3));
                   EXPECT_THAT(real, testing::ElementsAre(1.5, 3.75));
                   EXPECT_TRUE(ranks.any(ranks.rank() == 2, "a question"));
                   EXPECT_FALSE(ranks.any(false, "a question"));
                 });
  }
}

// 257 is no bf16: added one by one the ones would be lost.
TEST(Collectives, SumsOfBf16AreRoundedOnce) {
  for (const bool ordered : {true, false}) {
    run_on_ranks(4, {.timeout_s = 300, .ordered = ordered, .interrupted = {}},
                 [](Collectives& ranks) {
                   std::vector<Bf16> data(7, to_bf16(ranks.first() ? 256.0F : 1.0F));
                   ranks.all_reduce(view(data), "rounded numbers");
                   for (const Bf16 sum : data) {
                     EXPECT_EQ(from_bf16(sum), round_to_bf16(259.0F));
                     EXPECT_NE(from_bf16(sum), 256.0F);
                   }
                 });
  }
}

TEST(Collectives, WhatTheyDoElsewhereIsWaitedForInTheSameWay) {
  std::atomic<int> asked = 0;
  run_on_ranks(2, kOrdered, [&](Collectives& ranks) {
    const int64_t place = ranks.mark();
    ranks.wait_until(
        place, [&] { return ++asked > 10; }, [] { return "sums of a device"; });
    ranks.barrier("in step with each other");
  });
  EXPECT_GT(asked, 10);
  try {
    run_on_ranks(3, {.timeout_s = 2, .ordered = true, .interrupted = {}}, [](Collectives& ranks) {
      const int64_t place = ranks.mark();
      if (ranks.rank() != 1) {
        ranks.wait_until(
            place, [] { return false; }, [] { return "sums of a device"; });
      }
    });
    FAIL() << "nobody missed rank 1";
  } catch (const CollectiveError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("waited 2 s"),
                      HasSubstr("'sums of a device' for rank 1, which died or hangs")));
  }
}

// Many sums under way at once, of sizes that do not divide, tested in another order on each rank.
TEST(Collectives, SumsUnderWayKeepTheirOrderOnEveryRank) {
  run_on_ranks(4, kOrdered, [](Collectives& ranks) {
    for (int round = 0; round < 20; ++round) {
      std::vector<std::vector<float>> data;
      for (int64_t k = 0; k < 9; ++k) {
        data.emplace_back(static_cast<std::size_t>(1 + 13 * k),
                          static_cast<float>(ranks.rank() + k));
      }
      std::vector<std::unique_ptr<Collectives::Pending>> sums;
      for (auto& values : data) {
        sums.push_back(ranks.start_all_reduce(view(values), "sum"));
        sums[static_cast<std::size_t>(ranks.rank()) % sums.size()]->test();
      }
      for (std::size_t k = sums.size(); k-- > 0;) {
        sums[k]->wait();
        EXPECT_TRUE(sums[k]->test());
      }
      for (std::size_t k = 0; k < data.size(); ++k) {
        EXPECT_THAT(data[k], testing::Each(6.0F + 4.0F * static_cast<float>(k)));
      }
    }
  });
}

TEST(Collectives, BroadcastsAndGathersTextsOfAnyLength) {
  run_on_ranks(3, kOrdered, [](Collectives& ranks) {
    std::string text = ranks.first() ? std::string(100000, 'x') + "end" : "mine";
    ranks.broadcast(text, "a text");
    EXPECT_EQ(text, std::string(100000, 'x') + "end");
    EXPECT_THAT(ranks.all_gather(std::string(static_cast<std::size_t>(ranks.rank()), 'a'), "texts"),
                testing::ElementsAre("", "a", "aa"));
    std::string empty = ranks.first() ? "" : "not empty";
    ranks.broadcast(empty, "no text");
    EXPECT_EQ(empty, "");
  });
}

TEST(Collectives, AFailureIsKnownToAllAndToldByTheFirstThatHasIt) {
  const std::vector<std::string> errors = {"", "no file", "no memory", "no file", ""};
  run_on_ranks(5, kOrdered, [&](Collectives& ranks) {
    EXPECT_FALSE(ranks.agree_on_failure(""));
    EXPECT_FALSE(ranks.failure());
    EXPECT_TRUE(ranks.agree_on_failure(errors[static_cast<std::size_t>(ranks.rank())]));
    ASSERT_TRUE(ranks.failure());
    EXPECT_EQ(ranks.failure()->first, 1);
    EXPECT_EQ(ranks.failure()->tells, ranks.rank() == 1 || ranks.rank() == 2);
  });
}

TEST(Collectives, ABarrierIsLeftOnlyWhenAllHaveEntered) {
  std::atomic<int> entered = 0;
  run_on_ranks(4, kOrdered, [&](Collectives& ranks) {
    for (int round = 1; round <= 50; ++round) {
      ++entered;
      ranks.barrier("a barrier");
      EXPECT_GE(entered, 4 * round);
    }
  });
}

TEST(Collectives, ARankThatDoesNotComeIsNamedWithTheCollective) {
  try {
    run_on_ranks(3, {.timeout_s = 3, .ordered = true, .interrupted = {}}, [](Collectives& ranks) {
      ranks.barrier("the start");
      if (ranks.rank() != 1) {
        std::vector<float> data(10);
        ranks.all_reduce(view(data), "gradients of step 7, bucket 2");
      }
    });
    FAIL() << "nobody missed rank 1";
  } catch (const CollectiveError& error) {
    EXPECT_EQ(exit_status(error.kind()), 76);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 0 of 3"), HasSubstr("waited 3 s"),
                                    HasSubstr("'gradients of step 7, bucket 2' for rank 1,")));
  }
}

// Every collective takes in what was told before it; otherwise it would fill the transport's
// memory.
TEST(Collectives, WhatOthersToldIsTakenIn) {
  test::ThreadRanks ranks(2);
  ranks.transport(1)->tell(0);
  ASSERT_EQ(ranks.unheard(0), 1);
  std::thread other([&] { Collectives(ranks.transport(1), kOrdered).barrier("a barrier"); });
  Collectives(ranks.transport(0), kOrdered).barrier("a barrier");
  other.join();
  EXPECT_EQ(ranks.unheard(0), 0);
}

TEST(Collectives, ALongBroadcastGoesInParts) {
  Collectives::Options options = kOrdered;
  options.most_bytes = 16;
  run_on_ranks(3, options, [](Collectives& ranks) {
    for (const std::size_t size : {1, 16, 17, 32, 1000}) {
      std::vector<int8_t> expected(size);
      std::iota(expected.begin(), expected.end(), int8_t{1});
      std::vector<int8_t> data = ranks.first() ? expected : std::vector<int8_t>(size);
      ranks.broadcast(std::as_writable_bytes(std::span(data)), "a block");
      EXPECT_EQ(data, expected);
    }
  });
}

TEST(Collectives, AloneNothingIsSentAndAllIsAsItWas) {
  Collectives alone;
  EXPECT_TRUE(alone.alone());
  EXPECT_TRUE(alone.first());
  std::vector<float> data = {1.5F, -2.0F};
  alone.all_reduce(view(data), "a sum");
  EXPECT_THAT(data, testing::ElementsAre(1.5F, -2.0F));
  EXPECT_THAT(alone.all_gather("me", "names"), testing::ElementsAre("me"));
  alone.barrier("a barrier");
}

// Sets variables of the environment while it lives, and clears all others that tell of ranks.
class RankVariables {
 public:
  explicit RankVariables(const std::map<std::string, std::string>& set) {
    for (const char* name :
         {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
          "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"}) {
      const char* value = std::getenv(name);
      before_[name] = value == nullptr ? "" : value;
      ::unsetenv(name);
    }
    for (const auto& [name, value] : set) {
      ::setenv(name.c_str(), value.c_str(), 1);
    }
  }
  ~RankVariables() {
    for (const auto& [name, value] : before_) {
      value.empty() ? ::unsetenv(name.c_str()) : ::setenv(name.c_str(), value.c_str(), 1);
    }
  }
  RankVariables(const RankVariables&) = delete;
  RankVariables& operator=(const RankVariables&) = delete;

 private:
  std::map<std::string, std::string> before_;
};

TEST(RankEnvironment, KnowsMpirunAndSrunAndNothingElse) {
  {
    const RankVariables none({});
    EXPECT_EQ(rank_environment().size, 1);
    EXPECT_EQ(rank_environment().launcher, "");
    EXPECT_EQ(join_ranks(), nullptr);
  }
  {
    const RankVariables mpirun({{"OMPI_COMM_WORLD_SIZE", "4"},
                                {"OMPI_COMM_WORLD_RANK", "3"},
                                {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}});
    EXPECT_EQ(rank_environment().local_rank, 1);
    EXPECT_EQ(rank_environment().size, 4);
    EXPECT_EQ(rank_environment().rank, 3);
    EXPECT_EQ(rank_environment().launcher, "mpirun");
  }
  {
    const RankVariables srun(
        {{"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_PROCID", "1"}});
    EXPECT_EQ(rank_environment().local_rank, 0);
    EXPECT_EQ(rank_environment().size, 2);
    EXPECT_EQ(rank_environment().rank, 1);
    EXPECT_EQ(rank_environment().launcher, "srun");
  }
  {  // sbatch's own shell has a rank, but is no step
    const RankVariables batch({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}});
    EXPECT_EQ(rank_environment().size, 1);
  }
  {  // one process of mpirun needs no MPI
    const RankVariables one({{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}});
    EXPECT_EQ(join_ranks(), nullptr);
  }
}

TEST(RankEnvironment, RefusesWhatIsNoRank) {
  const auto message = [](const std::string& size, const std::string& rank) -> std::string {
    const RankVariables set({{"OMPI_COMM_WORLD_SIZE", size}, {"OMPI_COMM_WORLD_RANK", rank}});
    try {
      rank_environment();
    } catch (const DeviceError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message("two", "0"), HasSubstr("OMPI_COMM_WORLD_SIZE is 'two'"));
  EXPECT_THAT(message("2", ""), HasSubstr("OMPI_COMM_WORLD_RANK is ''"));
  EXPECT_THAT(message("2", "2"), HasSubstr("OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=2"));
  EXPECT_THAT(message("0", "0"), HasSubstr("OMPI_COMM_WORLD_SIZE is '0'"));
}

}  // namespace
}  // namespace stemfabric
