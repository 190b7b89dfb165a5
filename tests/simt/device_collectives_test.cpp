// Sums over the devices of ranks: what is asked of NCCL, in which order of the streams, and every
// way in which it can fail. On a stand-in for NCCL and the executor's streams.
#include "runtime/collectives/device_collectives.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>

#include "runtime/core/bf16.h"
#include "runtime/core/check.h"
#include "runtime/memory/host_access.h"
#include "tests/simt/host_nccl.h"
#include "tests/simt/simt_stream.h"
#include "tests/support/thread_ranks.h"

namespace stemfabric::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ExecutionContext device(MemoryResource& memory) {
  static SimtStagingMemory staging;
  return {std::make_unique<SimtStream>(), {.threads = 1, .resource = &memory, .staging = &staging}};
}

// What a rank needs.
struct Rank {
  explicit Rank(Collectives& all)
      : ranks(all), ctx(device(memory)), devices(all, ctx, host_nccl_functions()) {}
  Tensor tensor(const std::vector<double>& values, DType type) {
    Tensor made({static_cast<int64_t>(values.size())}, type, memory);
    write_on_host(ctx, made.view(), [&](const TensorView& host) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        type == DType::kF32   ? void(host.as<float>()[i] = static_cast<float>(values[i]))
        : type == DType::kF64 ? void(host.as<double>()[i] = values[i])
                              : void(host.as<Bf16>()[i] = to_bf16(static_cast<float>(values[i])));
      }
    });
    return made;
  }
  std::vector<double> values(const Tensor& tensor) {
    const HostView host(ctx, tensor.view());
    std::vector<double> read;
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      read.push_back(tensor.dtype() == DType::kF32   ? static_cast<double>(host.as<float>()[i])
                     : tensor.dtype() == DType::kF64 ? host.as<double>()[i]
                                                     : double{from_bf16(host.as<Bf16>()[i])});
    }
    return read;
  }
  // Queues a sum and waits for it.
  void add_up(Tensor&& tensor, const std::string& step = "1") { add_up(tensor, step); }
  void add_up(Tensor& tensor, const std::string& step = "1") {
    const int64_t place = devices.mark();
    devices.begin(step);
    devices.all_reduce(tensor.view(), "values of step {}");
    devices.join();
    wait(place, step);
  }
  // Sums that failed are stopped: no memory can be given back before.
  void wait(int64_t place, const std::string& step) {
    try {
      devices.wait(*ctx.stream().record(), place, step);
    } catch (const Error&) {
      devices.stop();
      throw;
    }
  }

  Collectives& ranks;
  SimtHostMemory memory;
  ExecutionContext ctx;
  DeviceCollectives devices;
};

class DeviceSums : public testing::Test {
 protected:
  DeviceSums() { reset_host_nccl(); }
  ~DeviceSums() override { ::unsetenv("NCCL_NVLS_ENABLE"); }
  static void on_ranks(int size, const std::function<void(Rank&)>& body, double timeout_s = 300) {
    run_on_ranks(size, {.timeout_s = timeout_s, .interrupted = {}, .devices_failed = {}},
                 [&](Collectives& ranks) {
                   Rank rank(ranks);
                   body(rank);
                 });
  }
  // The error of the rank that fails first in the order of the ranks.
  template <typename Expected>
  static std::string error_of(int size, const std::function<void(Rank&)>& body,
                              double timeout_s = 300) {
    try {
      on_ranks(size, body, timeout_s);
    } catch (const Expected& error) {
      return error.what();
    }
    return "no error";
  }
};

TEST_F(DeviceSums, AreTheSameOnEveryRankInEveryType) {
  for (const DType type : {DType::kF32, DType::kF64, DType::kBF16}) {
    on_ranks(3, [&](Rank& rank) {
      const double r = rank.ranks.rank();
      Tensor data = rank.tensor({1, r, -0.5 * r}, type);
      rank.add_up(data);
      EXPECT_THAT(rank.values(data), testing::ElementsAre(3, 3, -1.5)) << dtype_name(type);
    });
  }
}

// Work that was queued before a sum is in it; work after join() finds it; nothing waits.
TEST_F(DeviceSums, AreOrderedWithTheWorkOfTheStepOnAStreamOfTheirOwn) {
  std::array<const void*, 2> streams{};
  on_ranks(2, [&](Rank& rank) {
    Tensor data = rank.tensor({7, 7}, DType::kF32);
    Tensor later = rank.tensor({7, 7}, DType::kF32);
    Tensor after({2}, DType::kF32, rank.memory);
    const std::vector<float> mine(2, static_cast<float>(1 + rank.ranks.rank()));
    Stream& stream = rank.ctx.stream();
    const int64_t place = rank.devices.mark();
    stream.copy(data.view().data(), mine.data(), data.bytes());
    rank.devices.begin("1");
    rank.devices.all_reduce(data.view(), "first of step {}");
    rank.devices.join();
    stream.copy(later.view().data(), mine.data(), later.bytes());
    rank.devices.all_reduce(later.view(), "second of step {}");
    EXPECT_EQ(data.as<float>()[0], 7) << "something was waited for";
    streams[static_cast<std::size_t>(rank.ranks.rank())] = stream.native();
    rank.devices.join();
    stream.copy(after.view().data(), data.view().data(), data.bytes());
    stream.fill(data.view().data(), 0, data.bytes());
    rank.wait(place, "1");
    EXPECT_THAT(rank.values(after), testing::ElementsAre(3, 3));
    EXPECT_THAT(rank.values(later), testing::ElementsAre(3, 3));
    EXPECT_THAT(rank.values(data), testing::ElementsAre(0, 0));
  });
  for (const int rank : {0, 1}) {
    const auto& sums = host_nccl().sums[rank];
    ASSERT_EQ(sums.size(), 2U);
    EXPECT_EQ(sums[0].stream, sums[1].stream);
    EXPECT_NE(sums[0].stream, streams[static_cast<std::size_t>(rank)]);
  }
}

TEST_F(DeviceSums, AreRepeatedByAGraph) {
  on_ranks(2, [](Rank& rank) {
    Tensor data = rank.tensor({1, 2}, DType::kF32);
    Stream& stream = rank.ctx.stream();
    int64_t place = rank.devices.mark();
    auto graph = stream.capture([&] {
      rank.devices.begin("1");
      rank.devices.all_reduce(data.view(), "values of step {}");
      rank.devices.join();
    });
    for (const double expected : {2, 4, 8}) {
      graph->launch();
      rank.wait(place, "1");
      EXPECT_THAT(rank.values(data), testing::ElementsAre(expected, 2 * expected));
      place = rank.devices.mark();
    }
    graph.reset();
    rank.devices.close();
  });
  EXPECT_TRUE(host_nccl().sums[0].at(0).captured);
  EXPECT_EQ(host_nccl().sums[0].size(), 1U);
  EXPECT_FALSE(host_nccl().graphs_at_the_end);
}

TEST_F(DeviceSums, ACommunicatorIsMadeOnceAndDestroyedInTheEnd) {
  on_ranks(3, [](Rank& rank) {
    Tensor data = rank.tensor({1}, DType::kF32);
    for (int i = 0; i < 5; ++i) {
      rank.add_up(data);
    }
    rank.devices.close();
  });
  EXPECT_EQ(host_nccl().made, 3);
  EXPECT_EQ(host_nccl().destroyed, 3);
  EXPECT_EQ(host_nccl().aborted, 0);
}

TEST_F(DeviceSums, WithoutAnOrderlyEndTheyAreAborted) {
  on_ranks(2, [](Rank& rank) { rank.add_up(rank.tensor({1}, DType::kF32)); });
  EXPECT_EQ(host_nccl().destroyed, 0);
  EXPECT_EQ(host_nccl().aborted, 2);
}

TEST_F(DeviceSums, OfOneRankAreItsOwnValues) {
  Collectives alone;
  Rank rank(alone);
  Tensor data = rank.tensor({1.5, -2}, DType::kF32);
  rank.add_up(data);
  EXPECT_THAT(rank.values(data), testing::ElementsAre(1.5, -2));
  rank.devices.close();
}

TEST_F(DeviceSums, ARankThatDoesNotComeIsNamedWithTheSum) {
  for (const bool in_a_graph : {false, true}) {
    const std::string error = error_of<CollectiveError>(
        3,
        [&](Rank& rank) {
          Tensor data = rank.tensor({1}, DType::kF32);
          Stream& stream = rank.ctx.stream();
          const auto sums = [&](const std::string& step, int count) {
            rank.devices.begin(step);
            for (int i = 1; i <= count; ++i) {
              rank.devices.all_reduce(data.view(),
                                      fmt::format("gradients of step {{}}, bucket {}", i));
            }
            rank.devices.join();
          };
          // Rank 1 hangs between its first and its second sum.
          const int count = rank.ranks.rank() == 1 ? 1 : 3;
          const int64_t place = rank.devices.mark();
          if (in_a_graph) {
            stream.capture([&] { sums("1", count); })->launch();
          } else {
            sums("7", count);
          }
          if (rank.ranks.rank() == 1) {
            stream.synchronize();
            return;
          }
          try {
            rank.wait(place, "7");
          } catch (const CollectiveError& failure) {
            EXPECT_EQ(exit_status(failure.kind()), 76);
            stream.synchronize();  // comes to its end
            throw;
          }
        },
        3);
    EXPECT_THAT(error, AllOf(HasSubstr("rank 0 of 3"), HasSubstr("waited 3 s"),
                             HasSubstr("'gradients of step 7, bucket 2' for rank 1,")))
        << (in_a_graph ? "graph" : "kernels");
  }
}

TEST_F(DeviceSums, ARankThatDoesNotJoinIsNamed) {
  try {
    run_on_ranks(2, {.timeout_s = 2, .interrupted = {}, .devices_failed = {}},
                 [](Collectives& ranks) {
                   if (ranks.first()) {
                     Rank rank(ranks);
                     return;
                   }
                   std::array<std::byte, kNcclIdBytes> id{};
                   ranks.broadcast(id, "NCCL's id");  // and no further
                 });
    FAIL() << "nobody missed rank 1";
  } catch (const CollectiveError& error) {
    EXPECT_THAT(error.what(), HasSubstr("'start of NCCL' for rank 1,"));
  }
  EXPECT_EQ(host_nccl().aborted, 1);
}

TEST_F(DeviceSums, ErrorsOfNcclAreTypedAndTellItsWords) {
  const auto add_up = [](Rank& rank) { rank.add_up(rank.tensor({1}, DType::kF32), "4"); };
  for (const auto& [result, call] : {std::pair(kNcclSystemError, "ncclAllReduce"),
                                     std::pair(kNcclRemoteError, "ncclCommInitRankConfig")}) {
    reset_host_nccl();
    fail_host_nccl(call, result);
    EXPECT_THAT(error_of<CollectiveError>(1, add_up),
                AllOf(HasSubstr(call), HasSubstr("error"), HasSubstr("words of the test"),
                      HasSubstr("rank 0 of 1, in the collective '"), HasSubstr("NCCL_DEBUG")));
    EXPECT_EQ(host_nccl().aborted, 1);
  }
  for (const char* call : {"ncclGetUniqueId", "ncclCommInitRankConfig", "ncclAllReduce"}) {
    reset_host_nccl();
    fail_host_nccl(call, 5);
    EXPECT_THAT(error_of<DeviceError>(1, add_up),
                AllOf(HasSubstr(call), HasSubstr("invalid usage: words of the test")));
  }
}

// What goes wrong in NCCL's threads and on the network shows while a step is waited for.
TEST_F(DeviceSums, AnErrorThatComesWhileASumIsUnderWayNamesIt) {
  const std::string error = error_of<CollectiveError>(2, [](Rank& rank) {
    Tensor data = rank.tensor({1}, DType::kF32);
    const int64_t place = rank.devices.mark();
    rank.ranks.barrier("before the sums");
    if (!rank.ranks.first()) {
      return;  // and with it its communicator
    }
    rank.devices.begin("4");
    rank.devices.all_reduce(data.view(), "values of step {}");
    rank.devices.join();
    fail_host_nccl("async", kNcclRemoteError);
    rank.wait(place, "4");
  });
  EXPECT_THAT(error, AllOf(HasSubstr("rank 0 of 2, in the collective 'values of step 4'"),
                           HasSubstr("remote process exited")));
}

TEST_F(DeviceSums, OrderedOnesAreNotLeftToSwitches) {
  for (const bool ordered : {false, true}) {
    ::unsetenv("NCCL_NVLS_ENABLE");
    Collectives alone;
    alone.set_ordered(ordered);
    const Rank rank(alone);
    const char* value = std::getenv("NCCL_NVLS_ENABLE");
    EXPECT_EQ(value == nullptr ? "" : std::string(value), ordered ? "0" : "");
  }
  ::setenv("NCCL_NVLS_ENABLE", "1", 1);  // the user's word counts
  Collectives alone;
  const Rank rank(alone);
  EXPECT_STREQ(std::getenv("NCCL_NVLS_ENABLE"), "1");
}

}  // namespace
}  // namespace stemfabric::test
