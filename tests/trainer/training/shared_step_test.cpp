// Steps that several ranks share, without MPI: ranks are threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <set>

#include "runtime/core/bf16.h"
#include "runtime/core/check.h"
#include "runtime/device/device.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/tiny_training.h"
#include "tests/trainer/training/shared_training.h"
#include "trainer/training/gradient_reducer.h"
#include "trainer/training/preflight.h"
#include "trainer/training/ranks.h"
#include "trainer/training/training_setup.h"
#include "trainer/training/training_task.h"

namespace stemfabric {
namespace {

const Collectives::Options kOptions{.timeout_s = 300, .ordered = true, .interrupted = {}};

TEST(StepPlan, RanksHaveDisjointSharesWhoseUnionIsTheEpochWhateverTheirNumber) {
  for (const int64_t samples : {1, 16, 29, 33}) {
    const StepPlan whole{.samples = samples, .batch_size = 8, .accumulation = 2};
    for (const int64_t count : {1, 2, 4, 8}) {
      std::vector<SampleStream> streams;
      const auto plan = [&](int64_t rank) {
        return StepPlan{.samples = samples,
                        .batch_size = 8 / count,
                        .accumulation = 2,
                        .ranks = count,
                        .rank = rank};
      };
      for (int64_t rank = 0; rank < count; ++rank) {
        streams.emplace_back(plan(rank), 3, true, 0, 0);
      }
      SampleStream expected(whole, 3, true, 0, 0);
      ASSERT_EQ(plan(0).steps_per_epoch(), whole.steps_per_epoch());
      std::multiset<int64_t> seen;
      for (int64_t step = 0; step < 2 * whole.steps_per_epoch(); ++step) {
        for (int64_t i = 0; i < whole.micro_batches_in_step(step % whole.steps_per_epoch()); ++i) {
          const auto all = expected.next();
          std::vector<int64_t> joined;
          for (SampleStream& stream : streams) {
            const auto share = stream.next();
            ASSERT_LE(share.size(), static_cast<std::size_t>(8 / count));
            ASSERT_EQ(share.empty() ? 0 : stream.first_in_step(),
                      share.empty() ? 0 : 8 * i + static_cast<int64_t>(joined.size()));
            joined.insert(joined.end(), share.begin(), share.end());
          }
          ASSERT_EQ(joined, std::vector<int64_t>(all.begin(), all.end()));
          seen.insert(joined.begin(), joined.end());
        }
      }
      for (int64_t sample = 0; sample < samples; ++sample) {
        EXPECT_EQ(seen.count(sample), 2U) << "of two epochs";
      }
    }
  }
}

TEST(ThreadsOfRank, AreAsConfiguredWhereTheyAreAndSharedOutWhereTheyAreNot) {
  test::run_on_ranks(3, kOptions, [](Collectives& ranks) {
    const int64_t configured = ranks.rank() == 1 ? 5 : 0;
    // The ranks are threads of one process: all may use the same cores.
    const int64_t open = std::max<int64_t>(1, available_cores() / 3);
    EXPECT_EQ(threads_of_rank(ranks, configured), configured > 0 ? configured : open);
    EXPECT_TRUE(ranks.any(ranks.rank() == 2, "a question after it"));  // in step with each other
  });
}

// One for each rank: ops of one context do not run beside each other.
const ExecutionContext& cpu_context() {
  thread_local const ExecutionContext context({.device = {}, .threads = 1});
  return context;
}

TEST(GradientReducer, SendsLongBucketsInParts) {
  Collectives::Options options = kOptions;
  options.most_bytes = 24 * sizeof(float);
  test::run_on_ranks(2, options, [](Collectives& ranks) {
    std::vector<float> gradients(100, static_cast<float>(1 + ranks.rank()));
    const auto sums = make_step_sums(ranks, nullptr);
    const int64_t begin = ranks.mark();
    GradientReducer reducer(cpu_context(), *sums,
                            TensorView(gradients.data(), DType::kF32, Shape{100}), 80,
                            {.bucket_bytes = 20 * sizeof(float)});
    sums->begin(0);
    reducer.begin();
    reducer.kernels_are_final(30);
    EXPECT_EQ(ranks.mark() - begin, 1 + 3);  // of 24, 24 and 2
    reducer.finish();
    EXPECT_EQ(ranks.mark() - begin, 2 + 3 + 2 + 1);
    EXPECT_EQ(reducer.started(), 3);
    EXPECT_EQ(gradients, std::vector<float>(100, 3));
  });
}

TEST(GradientReducer, StartsABucketWhenEnoughIsFinalAndSumsEverythingOnce) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    test::run_on_ranks(3, kOptions, [&](Collectives& ranks) {
      std::vector<float> gradients(100);
      const auto sums = make_step_sums(ranks, nullptr);
      GradientReducer reducer(
          cpu_context(), *sums, TensorView(gradients.data(), DType::kF32, Shape{100}), 80,
          {.bucket_bytes = 20 * static_cast<int64_t>(dtype_size(dtype)), .dtype = dtype});
      for (int64_t step = 0; step < 3; ++step) {
        for (std::size_t i = 0; i < gradients.size(); ++i) {  // all sums are exact in bf16, too
          gradients[i] = static_cast<float>(i % 64) + static_cast<float>(ranks.rank());
        }
        sums->begin(step);
        reducer.begin();
        reducer.kernels_are_final(70);  // too few
        EXPECT_EQ(reducer.started(), 0);
        reducer.kernels_are_final(50);
        EXPECT_EQ(reducer.started(), 1);
        reducer.kernels_are_final(29);
        EXPECT_EQ(reducer.started(), 2);
        reducer.finish();  // the other kernels, and what is no kernel
        EXPECT_EQ(reducer.started(), 4);
        for (std::size_t i = 0; i < gradients.size(); ++i) {
          ASSERT_EQ(gradients[i], 3.0F * static_cast<float>(i % 64) + 3.0F) << i;
        }
      }
    });
  }
}

// Each part is off by the relative rounding error u of bf16 at most, and the sum is rounded once
// more: u Σ|g| + u (1 + u) Σ|g|, besides the rounding of the float32 sums.
TEST(GradientReducer, SumsOfBf16AreWithinItsRounding) {
  constexpr double kU = 0x1p-8;
  constexpr int kRanks = 3;
  const auto part = [](int rank, std::size_t i) {
    return test::tiny_random(5, static_cast<uint32_t>(rank), static_cast<int64_t>(i));
  };
  test::run_on_ranks(kRanks, kOptions, [&](Collectives& ranks) {
    std::vector<float> gradients(1000);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      gradients[i] = part(ranks.rank(), i);
    }
    const auto sums = make_step_sums(ranks, nullptr);
    GradientReducer reducer(cpu_context(), *sums,
                            TensorView(gradients.data(), DType::kF32, Shape{1000}), 900,
                            {.bucket_bytes = 512, .dtype = DType::kBF16});
    sums->begin(0);
    reducer.begin();
    reducer.kernels_are_final(0);
    reducer.finish();
    double used = 0;
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      double sum = 0;
      double size = 0;
      for (int r = 0; r < kRanks; ++r) {
        sum += part(r, i);
        size += std::abs(part(r, i));
      }
      const double bound = (kU * (2 + kU) + kRanks * 0x1p-24) * size;
      ASSERT_LE(std::abs(gradients[i] - sum), bound) << i;
      used = std::max(used, std::abs(gradients[i] - sum) / bound);
      ASSERT_EQ(gradients[i], round_to_bf16(gradients[i]));
    }
    EXPECT_GT(used, 0.1) << "nothing was rounded";
  });
}

// Every sum of gradients in the order of the ranks holds as many bytes as it has.
TEST(EstimateMemory, CountsTheSumsOfSeveralRanks) {
  const test::TempDir folder;
  test::write_tiny_dataset(folder.path());
  const auto sums = [&](int64_t ranks, const char* ordered) {
    const LoadedConfig config =
        test::tiny_config(folder.path(), {std::string("distributed.deterministic=") + ordered});
    const TrainingSetup setup = prepare_training(config);
    const auto task = make_training_task(setup, 0);
    const ParameterTable table(setup.model);
    const StepPlan plan{.samples = 22, .batch_size = 4, .accumulation = 1, .ranks = ranks};
    const MemoryEstimate memory =
        estimate_memory(config.config.training, setup, *task, table,
                        {.batch = 4, .tokens = 6, .training = true}, plan, Device{});
    EXPECT_EQ(memory.parameters,
              5 * static_cast<std::size_t>(table.block_elements()) * sizeof(float));
    return 5 * memory.sums / memory.parameters;
  };
  EXPECT_EQ(sums(1, "true"), 0U);
  EXPECT_EQ(sums(2, "true"), 1U);
  EXPECT_EQ(sums(2, "false"), 0U);
}

using Training = test::SharedTraining;

Training train(Collectives& ranks, const std::filesystem::path& folder, int64_t whole_batch,
               int64_t steps) {
  return test::train_shared(ExecutionContext({.device = {}, .threads = 1}), ranks,
                            {.folder = folder, .whole_batch = whole_batch, .steps = steps});
}

// 17 samples in steps of 8: the last step of an epoch has one sample, so that most ranks have none.
TEST(SharedStep, IsTheStepOfOneRankWithTheWholeBatch) {
  const test::TempDir folder;
  test::write_tiny_dataset(folder.path(), {.train = 17, .validation = 0});
  const std::filesystem::path data = folder / "train";
  Collectives alone;
  const int64_t steps = 7;
  const Training one = train(alone, data, 4, steps);
  EXPECT_EQ(one.samples, (std::vector<int64_t>{8, 8, 1, 8, 8, 1, 8}));
  for (const int size : {2, 4}) {
    std::vector<Training> all(static_cast<std::size_t>(size));
    test::run_on_ranks(size, kOptions, [&](Collectives& ranks) {
      all[static_cast<std::size_t>(ranks.rank())] = train(ranks, data, 4, steps);
    });
    EXPECT_EQ(all[0].samples, one.samples);
    EXPECT_EQ(all[0].stops, (std::vector<bool>{false, false, true, false, false, false, false}));
    for (int64_t i = 0; i < steps; ++i) {
      const auto at = static_cast<std::size_t>(i);
      EXPECT_NEAR(all[0].losses[at], one.losses[at], 1e-5 * one.losses[at]) << "step " << i;
      EXPECT_NEAR(all[0].norms[at], one.norms[at], 1e-5 * one.norms[at]) << "step " << i;
    }
    EXPECT_NEAR(all[0].validation.total, one.validation.total, 1e-5 * one.validation.total);
    for (std::size_t i = 0; i < one.weights.size(); ++i) {
      ASSERT_NEAR(all[0].weights[i], one.weights[i], 1e-5) << "element " << i;
    }
    for (const Training& other : all) {
      EXPECT_EQ(other.weights, all[0].weights);  // to the last bit
      EXPECT_EQ(other.losses, all[0].losses);
      EXPECT_EQ(other.validation.total, all[0].validation.total);
    }
  }
}

TEST(SharedStep, AValidationIsThatOfOneRank) {
  const test::TempDir folder;
  test::write_tiny_dataset(folder.path(), {.train = 17, .validation = 0});
  const std::filesystem::path data = folder / "train";
  Collectives alone;
  const LossValues one = train(alone, data, 4, 0).validation;
  test::run_on_ranks(4, kOptions, [&](Collectives& ranks) {
    const LossValues shared = train(ranks, data, 4, 0).validation;
    EXPECT_NEAR(shared.total, one.total, 1e-6 * one.total);
    for (std::size_t s = 0; s < kStemCount; ++s) {
      EXPECT_NEAR(shared.stem[s], one.stem[s], 1e-6 * one.stem[s]) << kStemNames[s];
    }
  });
}

TEST(SharedStep, ARankThatDrewOtherWeightsIsNoticed) {
  EXPECT_THROW(test::run_on_ranks(2, kOptions,
                                  [](Collectives& ranks) {
                                    Tensor weights = Tensor::zeros({8}, DType::kF32);
                                    weights.as<float>()[3] = static_cast<float>(ranks.rank());
                                    require_equal_results(cpu_context(), ranks, weights.view(), {});
                                  }),
               InternalError);
}

TEST(RequireOwnDevices, NamesRanksThatShareAGpuOrHaveNone) {
  const auto message = [](const std::vector<DeviceInfo>& devices) -> std::string {
    try {
      test::run_on_ranks(static_cast<int>(devices.size()), kOptions, [&](Collectives& ranks) {
        require_own_devices(ranks, devices[static_cast<std::size_t>(ranks.rank())]);
      });
    } catch (const DeviceError& error) {
      return error.what();
    }
    return "in order";
  };
  const DeviceInfo cpu_device;
  const DeviceInfo one{.device = {DeviceKind::kCuda, 0}, .id = "aa"};
  const DeviceInfo two{.device = {DeviceKind::kCuda, 0}, .id = "bb"};  // as each rank sees its own
  EXPECT_EQ(message({cpu_device, cpu_device, cpu_device}), "in order");
  EXPECT_EQ(message({one, two}), "in order");
  EXPECT_NE(message({two, one, one}).find("ranks 1 and 2 have the same GPU"), std::string::npos);
  EXPECT_NE(message({one, two, cpu_device}).find("rank 0 computes on a GPU, rank 2 on a CPU"),
            std::string::npos);
}

TEST(OnEveryRank, AnErrorOfOneIsTheEndOfAll) {
  std::array<std::string, 3> ends;
  test::run_on_ranks(3, kOptions, [&](Collectives& ranks) {
    int done = 0;
    on_every_rank(ranks, [&] { ++done; });
    EXPECT_EQ(done, 1);
    try {
      on_every_rank(ranks, [&] {
        if (ranks.rank() == 1) {
          throw InputError("no such file");
        }
      });
    } catch (const InputError& error) {
      ends[1] = error.what();
    } catch (const CollectiveError& error) {
      ends[static_cast<std::size_t>(ranks.rank())] = error.what();
    }
  });
  EXPECT_EQ(ends, (std::array<std::string, 3>{"rank 1 cannot go on", "no such file",
                                              "rank 1 cannot go on"}));
}

// Nobody answers: what happened here says more than that.
TEST(OnEveryRank, OnesOwnErrorOutlivesTheTimeLimit) {
  Collectives::Options hasty = kOptions;
  hasty.timeout_s = 0.2;
  test::run_on_ranks(2, hasty, [](Collectives& ranks) {
    if (ranks.rank() == 0) {
      EXPECT_THROW(on_every_rank(ranks, [] { throw InputError("no such file"); }), InputError);
    }
  });
}

TEST(RequireEqualRanks, NamesHashesRankAndKeys) {
  const Tensor weights = Tensor::zeros({8}, DType::kF32);
  const auto message = [&](const RunIdentity& first, const RunIdentity& second) -> std::string {
    try {
      test::run_on_ranks(2, kOptions, [&](Collectives& ranks) {
        require_equal_ranks(cpu_context(), ranks, ranks.first() ? first : second, weights.view());
      });
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "equal";
  };
  Config config;
  const auto identity = [&] {
    return RunIdentity{
        .config_json = config_to_json(config), .model = {}, .data_hash = "0123456789abcdef00"};
  };
  const RunIdentity first = identity();
  config.training.threads = 3;
  config.data.dataset_dir = "elsewhere";
  EXPECT_EQ(message(first, identity()), "equal");
  config.training.seed = 8;
  const std::string other_seed = message(first, identity());
  EXPECT_NE(other_seed.find("the configuration of rank 1 has the hash "), std::string::npos);
  EXPECT_NE(other_seed.find("; training.seed is 0 on rank 0 and 8 there;"), std::string::npos)
      << other_seed;
  RunIdentity other_data = first;
  other_data.data_hash = "fedcba9876543210ff";
  EXPECT_NE(message(first, other_data)
                .find("the data set of rank 1 has the hash fedcba9876543210, that of rank 0 "
                      "0123456789abcdef"),
            std::string::npos);
}

}  // namespace
}  // namespace stemfabric
