// Steps that several ranks share, without MPI: ranks are threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <set>

#include "runtime/core/check.h"
#include "runtime/device/device.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/tiny_training.h"
#include "trainer/data/dataset.h"
#include "trainer/model/separator.h"
#include "trainer/training/gradient_reducer.h"
#include "trainer/training/prefetch.h"
#include "trainer/training/preflight.h"
#include "trainer/training/ranks.h"
#include "trainer/training/snapshot_task.h"
#include "trainer/training/train_step.h"
#include "trainer/training/training_setup.h"
#include "trainer/training/training_task.h"
#include "trainer/training/validation.h"

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

TEST(GradientReducer, SendsLongBucketsInParts) {
  Collectives::Options options = kOptions;
  options.most_bytes = 24 * sizeof(float);
  test::run_on_ranks(2, options, [](Collectives& ranks) {
    std::vector<float> gradients(100, static_cast<float>(1 + ranks.rank()));
    GradientReducer reducer(ranks, TensorView(gradients.data(), DType::kF32, Shape{100}), 80,
                            20 * sizeof(float));
    reducer.begin(0);
    reducer.kernels_are_final(30);
    EXPECT_EQ(reducer.started(), 3);  // of 24, 24 and 2
    reducer.finish();
    EXPECT_EQ(reducer.started(), 3 + 2 + 1);
    EXPECT_EQ(gradients, std::vector<float>(100, 3));
  });
}

TEST(GradientReducer, StartsABucketWhenEnoughIsFinalAndSumsEverythingOnce) {
  test::run_on_ranks(3, kOptions, [](Collectives& ranks) {
    std::vector<float> gradients(100);
    GradientReducer reducer(ranks, TensorView(gradients.data(), DType::kF32, Shape{100}), 80,
                            20 * sizeof(float));
    for (int64_t step = 0; step < 3; ++step) {
      for (std::size_t i = 0; i < gradients.size(); ++i) {
        gradients[i] = static_cast<float>(i) + static_cast<float>(ranks.rank());
      }
      reducer.begin(step);
      reducer.kernels_are_final(70);  // too few
      EXPECT_EQ(reducer.started(), 0);
      reducer.kernels_are_final(50);
      EXPECT_EQ(reducer.started(), 1);
      reducer.kernels_are_final(29);
      EXPECT_EQ(reducer.started(), 2);
      reducer.finish();  // the other kernels, and what is no kernel
      EXPECT_EQ(reducer.started(), 4);
      for (std::size_t i = 0; i < gradients.size(); ++i) {
        ASSERT_EQ(gradients[i], 3.0F * static_cast<float>(i) + 3.0F) << i;
      }
    }
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

// A training of some steps from the first sample on; ranks share the steps.
struct Training {
  std::vector<float> weights;
  std::vector<double> losses, norms;
  std::vector<int64_t> samples;
  std::vector<bool> stops;
  LossValues validation;
};

Training train(Collectives& ranks, const std::filesystem::path& folder, int64_t whole_batch,
               int64_t steps) {
  const Dataset data(folder);  // each rank has its own, as processes do
  const ExecutionContext ctx({.device = {}, .threads = 1});
  ModelConfig config;
  config.input_dim = data.features();
  config.output_dim = data.outputs();
  config.max_sequence_length = data.tokens();
  config.dim = 16;
  config.depth = 2;
  config.heads = 2;
  config.dim_ff = 16;
  config.attention.dropout = 0.2;
  const StepPlan plan{.samples = data.size(),
                      .batch_size = whole_batch / ranks.size(),
                      .accumulation = 2,
                      .ranks = ranks.size(),
                      .rank = ranks.rank()};
  Separator model(ctx, config,
                  {.batch = plan.batch_size, .tokens = data.tokens(), .training = true});
  model.parameters().initialize(model.weights().as<float>(), 5);
  // Momentum alone: an update is linear in the gradient, so that its rounding stays small.
  Optimizer optimizer(ctx, {.epsilon = 1.0}, model.parameters().block_elements(),
                      model.parameters().decayed_elements());
  SnapshotObjective objective(ctx);
  SnapshotStage stage(ctx, {1, 0.5, 2, 1, 0.25, 1});
  TrainStep step(ctx, {.grad_clip = 0.5, .seed = 7, .ranks = &ranks, .bucket_bytes = 512}, model,
                 optimizer, nullptr, objective, stage);
  Training result;
  {
    Prefetcher batches(data, SampleStream(plan, 9, true, 0, 0), plan.batch_size, 2);
    PhaseTimes times;
    for (int64_t i = 0; i < steps; ++i) {
      std::vector<const SampleBatch*> micro_batches;
      const int64_t count = plan.micro_batches_in_step(i % plan.steps_per_epoch());
      for (int64_t m = 0; m < count; ++m) {
        micro_batches.push_back(&batches.next());
      }
      // The last rank is asked to stop before the third step.
      step.launch(micro_batches, i, 0.05, times, i == 2 && ranks.rank() + 1 == ranks.size());
      const StepResult r = step.collect(times);
      result.losses.push_back(r.loss.total);
      result.norms.push_back(r.grad_norm);
      result.samples.push_back(r.samples);
      result.stops.push_back(r.stop);
      batches.release();
    }
  }
  result.validation = *dataset_loss(ctx, ranks, model, objective, stage, nullptr, data,
                                    plan.batch_size, [] { return false; });
  const auto* weights = model.weights().as<float>();
  result.weights.assign(weights, weights + model.parameters().block_elements());
  return result;
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
                                    require_equal_results(ranks, weights.view(), {});
                                  }),
               InternalError);
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
        require_equal_ranks(ranks, ranks.first() ? first : second, weights.view());
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
