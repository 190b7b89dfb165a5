// Training on several ranks with a device each: ranks are threads, their devices the executor's,
// what adds up between them a stand-in for NCCL.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <mutex>
#include <stdexcept>

#include "runtime/core/bf16.h"
#include "runtime/core/check.h"
#include "tests/simt/host_nccl.h"
#include "tests/simt/trainer/devices.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/tiny_training.h"
#include "tests/trainer/training/shared_training.h"
#include "trainer/training/training.h"

namespace stemfabric::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

const Collectives::Options kOptions{
    .timeout_s = 300, .ordered = true, .interrupted = {}, .devices_failed = {}};

class DeviceRanks : public testing::Test {
 protected:
  DeviceRanks() { reset_host_nccl(); }

  // A training of each rank.
  struct Result {
    SharedTraining training;
    int64_t graph_launches = 0;
  };
  std::vector<Result> train(int size, const SharedTrainingOptions& settings,
                            const Collectives::Options& options = kOptions) {
    std::vector<Result> all(static_cast<std::size_t>(size));
    run_on_ranks(size, options, [&](Collectives& ranks) {
      SimtDeviceMemory memory;
      const ExecutionContext ctx = simt_device(memory);
      DeviceCollectives devices(ranks, ctx, host_nccl_functions());
      SharedTrainingOptions mine = settings;
      mine.devices = &devices;
      Result& result = all[static_cast<std::size_t>(ranks.rank())];
      result.training = train_shared(ctx, ranks, mine);
      result.graph_launches = dynamic_cast<SimtStream&>(ctx.stream()).graph_launches();
      devices.close();
    });
    return all;
  }
  // 13 samples in steps of 12: every other step has one sample, so that most ranks have none.
  SharedTrainingOptions settings(int64_t steps, int64_t samples = 13) {
    write_tiny_dataset(folder_.path(), {.train = samples, .validation = 0});
    return {.folder = folder_ / "train", .whole_batch = 6, .steps = steps};
  }

  TempDir folder_;
};

TEST_F(DeviceRanks, AStepIsThatOfOneDeviceWithTheWholeBatch) {
  const SharedTrainingOptions options = settings(9);
  SimtDeviceMemory memory;
  Collectives alone;
  const SharedTraining one = train_shared(simt_device(memory), alone, options);
  EXPECT_EQ(one.samples, (std::vector<int64_t>{12, 1, 12, 1, 12, 1, 12, 1, 12}));
  for (const int size : {2, 3}) {
    const std::vector<Result> all = train(size, options);
    const SharedTraining& first = all[0].training;
    EXPECT_EQ(first.samples, one.samples);
    EXPECT_EQ(first.stops,
              (std::vector<bool>{false, false, true, false, false, false, false, false, false}));
    for (std::size_t i = 0; i < one.losses.size(); ++i) {
      EXPECT_NEAR(first.losses[i], one.losses[i], 1e-5 * one.losses[i]) << "step " << i;
      EXPECT_NEAR(first.norms[i], one.norms[i], 1e-5 * one.norms[i]) << "step " << i;
    }
    EXPECT_NEAR(first.validation.total, one.validation.total, 1e-5 * one.validation.total);
    for (std::size_t i = 0; i < one.weights.size(); ++i) {
      ASSERT_NEAR(first.weights[i], one.weights[i], 1e-5) << "element " << i;
    }
    for (const Result& other : all) {
      EXPECT_EQ(other.training.weights, first.weights);  // to the last bit
      EXPECT_EQ(other.training.losses, first.losses);
      EXPECT_EQ(other.training.validation.total, first.validation.total);
      EXPECT_GE(other.graph_launches, 4);
      EXPECT_EQ(other.graph_launches, all[0].graph_launches);
    }
  }
}

TEST_F(DeviceRanks, AGraphGivesTheBitsOfItsKernelsAndSums) {
  SharedTrainingOptions options = settings(7);
  const SharedTraining graph = train(2, options)[0].training;
  options.graph = false;
  const Result kernels = train(2, options)[0];
  EXPECT_EQ(kernels.graph_launches, 0);
  EXPECT_EQ(kernels.training.weights, graph.weights);
  EXPECT_EQ(kernels.training.losses, graph.losses);
}

// Counts, buckets while the backward pass runs, losses, in the same order on every rank, all on one
// stream; also where a rank has no samples.
TEST_F(DeviceRanks, AllMakeTheSameSumsInTheSameOrder) {
  SharedTrainingOptions options = settings(4);
  options.graph = false;
  train(3, options);
  EXPECT_EQ(host_nccl().made, 3);
  EXPECT_EQ(host_nccl().destroyed, 3);
  const std::vector<HostNccl::Sum>& first = host_nccl().sums.at(0);
  ASSERT_EQ(first.size() % 4, 0U);
  const std::size_t in_step = first.size() / 4;
  EXPECT_GE(in_step, 6U);
  std::size_t gradients = 0;
  for (std::size_t i = 0; i < in_step; ++i) {
    gradients += first[i].type == DType::kF32 ? first[i].elements : 0;
  }
  EXPECT_EQ(first[0].elements, kStemCount + 2);
  EXPECT_EQ(first[0].type, DType::kF64);
  EXPECT_GT(gradients, 1000U);
  for (const auto& [rank, sums] : host_nccl().sums) {
    ASSERT_EQ(sums.size(), first.size());
    for (std::size_t i = 0; i < sums.size(); ++i) {
      EXPECT_EQ(sums[i].elements, first[i].elements);
      EXPECT_EQ(sums[i].elements, first[i % in_step].elements);
      EXPECT_EQ(sums[i].type, first[i].type);
      EXPECT_EQ(sums[i].stream, sums[0].stream);
    }
  }
}

// Micro-batches of 6 and 6, then of 6 and 5 samples: to the second of two ranks both steps look
// alike, to the first they do not.
TEST_F(DeviceRanks, SumsAreCapturedInTheSameStepsOnAllRanksAndNoneIsLeftInTheEnd) {
  train(2, settings(7, 23));
  const std::vector<HostNccl::Sum>& first = host_nccl().sums.at(0);
  std::size_t captured = 0;
  for (const auto& [rank, sums] : host_nccl().sums) {
    ASSERT_EQ(sums.size(), first.size());
    for (std::size_t i = 0; i < sums.size(); ++i) {
      EXPECT_EQ(sums[i].captured, first[i].captured) << "rank " << rank << ", sum " << i;
      captured += sums[i].captured ? 1 : 0;
    }
  }
  EXPECT_GT(captured, 0U);
  EXPECT_FALSE(host_nccl().graphs_at_the_end);
}

// A rank's scratch memory may grow where another's does not.
TEST_F(DeviceRanks, GraphsAreGivenUpOnAllRanksWhenOneHasTakenMemory) {
  SharedTrainingOptions options = settings(13);
  const std::vector<float> expected = train(2, options)[0].training.weights;
  reset_host_nccl();
  std::vector<std::vector<float>> weights(2);
  run_on_ranks(2, kOptions, [&](Collectives& ranks) {
    SimtDeviceMemory memory;
    const ExecutionContext ctx = simt_device(memory);
    DeviceCollectives devices(ranks, ctx, host_nccl_functions());
    SharedTrainingOptions mine = options;
    mine.devices = &devices;
    mine.collect_before = 8;  // as before a validation, which may take memory
    mine.before_step = [&](int64_t step, int rank) {
      if (step == 8 && rank == 1) {
        WorkspaceScope scope(ctx.workspace());
        scope.take<std::byte>(8 << 20);
      }
    };
    weights[static_cast<std::size_t>(ranks.rank())] = train_shared(ctx, ranks, mine).weights;
    devices.close();
  });
  EXPECT_EQ(weights[0], expected);
  EXPECT_EQ(weights[1], expected);
  EXPECT_EQ(host_nccl().sums[0].size(), host_nccl().sums[1].size());
}

// Each part is off by the relative rounding error u of bf16 at most, and so is each of the n - 1
// sums that NCCL rounds: (1 + u)^n - 1 of the sum of all sizes, besides float32's own rounding.
TEST_F(DeviceRanks, GradientsInBf16AreWithinItsRounding) {
  constexpr double kU = 0x1p-8;
  constexpr int kSize = 3;
  constexpr int64_t kElements = 1000;
  const auto part = [](int rank, int64_t i) {
    return tiny_random(5, static_cast<uint32_t>(rank), i);
  };
  run_on_ranks(kSize, kOptions, [&](Collectives& ranks) {
    SimtDeviceMemory memory;
    const ExecutionContext ctx = simt_device(memory);
    DeviceCollectives devices(ranks, ctx, host_nccl_functions());
    const auto sums = make_step_sums(ranks, &devices);
    Tensor gradients({kElements}, DType::kF32, memory);
    write_on_host(ctx, gradients.view(), [&](const TensorView& host) {
      for (int64_t i = 0; i < kElements; ++i) {
        host.as<float>()[i] = part(ranks.rank(), i);
      }
    });
    GradientReducer reducer(ctx, *sums, gradients.view(), 900,
                            {.bucket_bytes = 512, .dtype = DType::kBF16});
    sums->begin(0);
    reducer.begin();
    reducer.kernels_are_final(400);
    reducer.kernels_are_final(0);
    reducer.finish();
    const HostView host(ctx, gradients.view());
    double used = 0;
    for (int64_t i = 0; i < kElements; ++i) {
      double sum = 0;
      double size = 0;
      for (int r = 0; r < kSize; ++r) {
        sum += part(r, i);
        size += std::abs(part(r, i));
      }
      const double bound = (std::pow(1 + kU, kSize) - 1 + kSize * 0x1p-24) * size;
      ASSERT_LE(std::abs(host.as<float>()[i] - sum), bound) << i;
      used = std::max(used, std::abs(host.as<float>()[i] - sum) / bound);
    }
    EXPECT_GT(used, 0.1) << "nothing was rounded";
    devices.close();
  });
  for (const auto& [rank, list] : host_nccl().sums) {
    EXPECT_EQ(list.size(), 3U);
    for (const HostNccl::Sum& sum : list) {
      EXPECT_EQ(sum.type, DType::kBF16);
    }
  }
}

TEST_F(DeviceRanks, ATrainingWithGradientsInBf16IsTheSameOnAllRanksAndNearThatInF32) {
  SharedTrainingOptions options = settings(5);
  const SharedTraining f32 = train(2, options)[0].training;
  options.gradient_dtype = DType::kBF16;
  const std::vector<Result> bf16 = train(2, options);
  EXPECT_EQ(bf16[0].training.weights, bf16[1].training.weights);
  EXPECT_EQ(bf16[0].training.losses[0], f32.losses[0]);  // before any gradient
  EXPECT_NE(bf16[0].training.norms[0], f32.norms[0]);
  for (std::size_t i = 0; i < f32.losses.size(); ++i) {
    EXPECT_NEAR(bf16[0].training.losses[i], f32.losses[i], 1e-2 * f32.losses[i]);
  }
}

TEST_F(DeviceRanks, ARankThatEndsIsNamedWithTheSumThatMissesIt) {
  for (const bool graph : {true, false}) {
    SharedTrainingOptions options = settings(10);
    options.graph = graph;
    options.before_step = [](int64_t step, int rank) {
      if (step == 8 && rank == 1) {
        throw std::runtime_error("the end of the process");
      }
    };
    std::mutex mutex;
    std::vector<std::string> told;
    Collectives::Options limits = kOptions;
    limits.timeout_s = 3;
    limits.devices_failed = [&](const Error& error) {
      const std::lock_guard lock(mutex);
      told.emplace_back(error.what());
    };
    try {
      train(3, options, limits);
      FAIL() << "nobody missed rank 1";
    } catch (const CollectiveError& error) {
      EXPECT_THAT(error.what(),
                  AllOf(HasSubstr("rank 0 of 3 waited 3 s"),
                        HasSubstr("'counts of step 9' for rank 1, which died or hangs")))
          << (graph ? "graph" : "kernels");
    }
    EXPECT_THAT(told, AllOf(testing::SizeIs(2), Each(HasSubstr("'counts of step 9'"))));
  }
}

TEST_F(DeviceRanks, AnErrorOfNcclEndsTheTraining) {
  SharedTrainingOptions options = settings(10);
  options.before_step = [](int64_t step, int rank) {
    if (step == 7 && rank == 0) {
      fail_host_nccl("async", kNcclRemoteError);
    }
  };
  EXPECT_THROW(train(2, options), CollectiveError);
}

// A whole run, with validation, an average, checkpoints and a stop that one rank is asked for.
class DeviceRanksRun : public DeviceRanks {
 protected:
  void SetUp() override { write_tiny_dataset(folder_ / "data", {.train = 13, .validation = 5}); }

  std::vector<std::string> config_of(int64_t batch) const {
    return {"training.batch_size=" + std::to_string(batch),
            "training.num_epochs=4",
            "training.gradient_accumulation_steps=2",
            "training.adam_epsilon=1",
            "training.lr=0.05",
            "training.ema_momentum=0.9",
            "model.attention.dropout=0.1",
            "distributed.bucket_bytes=512"};
  }
  TrainingResult run(const std::string& name, int size, std::function<bool(int64_t)> stop = {}) {
    const LoadedConfig config = tiny_config(folder_ / "data", config_of(4 / size));
    std::vector<TrainingResult> results(static_cast<std::size_t>(size));
    run_on_ranks(size, kOptions, [&](Collectives& ranks) {
      SimtDeviceMemory memory;
      TrainOptions options{.output_dir = folder_ / name, .ranks = &ranks};
      options.make_context = [&] { return simt_device(memory); };
      options.nccl = &host_nccl_functions();
      if (ranks.rank() + 1 == size) {
        options.stop = stop;
      }
      results[static_cast<std::size_t>(ranks.rank())] = run_training(config, options);
    });
    for (const TrainingResult& result : results) {
      EXPECT_EQ(result.steps, results[0].steps);
      EXPECT_EQ(result.validation_loss, results[0].validation_loss);
    }
    return results[0];
  }
};

TEST_F(DeviceRanksRun, IsThatOfOneDeviceAndIsTakenUpAgainAfterAStop) {
  const TrainingResult one = run("one", 1);
  EXPECT_EQ(host_nccl().made, 0) << "one rank needs no NCCL";
  const TrainingResult two = run("two", 2);
  EXPECT_EQ(host_nccl().made, 2);
  EXPECT_EQ(host_nccl().destroyed, 2);
  EXPECT_FALSE(host_nccl().graphs_at_the_end);
  EXPECT_EQ(two.steps, one.steps);
  EXPECT_NEAR(*two.validation_loss, *one.validation_loss, 1e-5 * *one.validation_loss);
  const auto weights = read_all_tensors(folder_ / "two" / "final_model.safetensors");
  for (const auto& [name, values] : read_all_tensors(folder_ / "one" / "final_model.safetensors")) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR(weights.at(name)[i], values[i], 1e-5) << name;
    }
  }
  const TrainingResult stopped = run("stopped", 2, [](int64_t step) { return step == 3; });
  EXPECT_EQ(stopped.end, TrainingResult::End::kInterrupted);
  run("stopped", 2);
  EXPECT_EQ(read_all_tensors(folder_ / "stopped" / "final_model.safetensors"), weights);
}

}  // namespace
}  // namespace stemfabric::test
