// Steps that are launched before the results of those before them are read: on the executor, whose
// streams run nothing before somebody waits.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <stdexcept>

#include "runtime/memory/host_access.h"
#include "tests/simt/trainer/devices.h"
#include "tests/support/simd_levels.h"
#include "tests/support/tiny_training.h"
#include "trainer/training/snapshot_task.h"
#include "trainer/training/train_step.h"
#include "trainer/training/training.h"
#include "trainer/training/training_setup.h"

namespace stemfabric::test {
namespace {

// What a step needs, with everything that has a state.
struct Stepper {
  Stepper(const ExecutionContext& context, const TrainingSetup& setup, bool graph = true)
      : ctx(context),
        data(*setup.data.train),
        model(ctx, setup.model, {.batch = 4, .tokens = data.tokens(), .training = true}),
        optimizer(ctx, {.decoupled = true, .weight_decay = 0.1},
                  model.parameters().block_elements(), model.parameters().decayed_elements()),
        objective(ctx),
        stage(ctx, {1, 0.5, 2, 1, 0.25, 1}) {
    write_on_host(ctx, model.weights(), [&](const TensorView& host) {
      model.parameters().initialize(host.as<float>(), 3);
    });
    ema = std::make_unique<Ema>(ctx, 0.9, model.weights());
    step = std::make_unique<TrainStep>(
        ctx, TrainStep::Options{.grad_clip = 0.05, .seed = 7, .graph = graph}, model, optimizer,
        ema.get(), objective, stage);
  }
  // Step `index` has two micro-batches, of other samples and, in the end, of other sizes.
  std::vector<Batch> batches(int64_t index) const {
    std::vector<Batch> result;
    for (int64_t half = 0; half < 2; ++half) {
      std::vector<int64_t> samples(static_cast<std::size_t>(half == 1 && index % 3 == 2 ? 2 : 4));
      for (std::size_t i = 0; i < samples.size(); ++i) {
        samples[i] = (8 * index + 4 * half + static_cast<int64_t>(i)) % data.size();
      }
      result.emplace_back(4, data.tokens(), data.features(), data.outputs(), ctx.staging());
      data.gather(samples, result.back());
    }
    return result;
  }
  void launch(const std::vector<Batch>& batches, int64_t index) {
    const SampleBatch* pointers[] = {&batches[0], &batches[1]};
    step->launch(pointers, index, 1e-3 * static_cast<double>(1 + index), times);
  }
  // All that the steps leave behind.
  std::vector<float> state() {
    std::vector<float> values;
    for (const ConstTensorView& block :
         {ConstTensorView(model.weights()), ConstTensorView(optimizer.first_moment()),
          ConstTensorView(optimizer.second_moment()), ConstTensorView(ema->average())}) {
      const HostView host(ctx, block);
      values.insert(values.end(), host.as<float>(), host.as<float>() + block.elements());
    }
    return values;
  }

  const ExecutionContext& ctx;
  const Dataset& data;
  Separator model;
  Optimizer optimizer;
  std::unique_ptr<Ema> ema;
  SnapshotObjective objective;
  SnapshotStage stage;
  std::unique_ptr<TrainStep> step;
  PhaseTimes times;
};

class StepsAhead : public testing::Test {
 protected:
  void SetUp() override { simt::set_schedule(simt::Schedule::kReverse, 1); }
  void TearDown() override { SimtStream::others_run_at_once = false; }

  LoadedConfig config(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> settings = {
        "training.num_epochs=2", "training.grad_clip=0.2", "training.ema_momentum=0.9",
        "model.ff_dropout=0.2",  "model.attn_dropout=0.1", "model.attention.dropout=0.1"};
    settings.insert(settings.end(), more.begin(), more.end());
    return tiny_config(folder_ / "data", settings);
  }
  TrainingResult train(const std::string& name, bool on_device,
                       const std::vector<std::string>& more = {},
                       std::function<bool(int64_t)> stop = {}) {
    TrainOptions options{.output_dir = folder_ / name};
    options.make_context = [&] { return on_device ? simt_device(memory_) : cpu_context(); };
    options.stop = std::move(stop);
    return run_training(config(more), options);
  }

  TempDir folder_;
  SimtDeviceMemory memory_;
};

SimtStream& simt_stream(const ExecutionContext& ctx) {
  return dynamic_cast<SimtStream&>(ctx.stream());
}
int64_t graph_launches(const ExecutionContext& ctx) { return simt_stream(ctx).graph_launches(); }

constexpr int64_t kSteps = 9;
constexpr int64_t kSpoiled = 3;

// Batches are copied beside the step before: they may all have come to the device before its first
// kernel has run, and must not take the place of what it still reads.
class StepsAheadOfCopies : public StepsAhead, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    StepsAhead::SetUp();
    SimtStream::others_run_at_once = GetParam();
  }
};

TEST_P(StepsAheadOfCopies, LaunchWaitsForNothing) {
  write_tiny_dataset(folder_ / "data", {.train = 26});
  const TrainingSetup setup = prepare_training(config());
  const ExecutionContext ctx = simt_device(memory_);
  Stepper stepper(ctx, setup);
  std::vector<std::vector<Batch>> batches;
  for (int64_t i = 0; i < 3; ++i) {
    batches.push_back(stepper.batches(0));
  }
  stepper.launch(batches[0], 0);  // takes memory, which may wait
  stepper.step->collect(stepper.times);
  const int64_t before = simt::launches();
  stepper.launch(batches[1], 1);
  stepper.launch(batches[2], 2);
  EXPECT_EQ(simt::launches(), before) << "a kernel has run: launch() waited for the device";
  EXPECT_THROW(stepper.launch(batches[2], 3), InternalError);
  stepper.step->collect(stepper.times);
  const int64_t between = simt::launches();
  EXPECT_GT(between, before + 20);
  EXPECT_EQ(stepper.step->in_flight(), 1U);
  stepper.step->collect(stepper.times);
  EXPECT_EQ(simt::launches() - between, between - before) << "the first wait was for both steps";
  EXPECT_THROW(stepper.step->collect(stepper.times), InternalError);
}

TEST_P(StepsAheadOfCopies, GiveTheSameBitsAsOneByOne) {
  write_tiny_dataset(folder_ / "data",
                     {.train = 8 * kSteps, .overflowing_sample = 8 * kSpoiled + 3});
  const TrainingSetup setup = prepare_training(config());
  const auto run = [&](std::size_t ahead, bool graph, std::vector<StepResult>& results) {
    const ExecutionContext ctx = simt_device(memory_);
    Stepper stepper(ctx, setup, graph);
    std::deque<std::vector<Batch>> batches;
    const auto collect = [&] {
      results.push_back(stepper.step->collect(stepper.times));
      batches.pop_front();  // whose memory is NaN from here
    };
    for (int64_t i = 0; i < kSteps; ++i) {
      batches.push_back(stepper.batches(i));
      stepper.launch(batches.back(), i);
      while (stepper.step->in_flight() > ahead) {
        collect();
      }
    }
    while (stepper.step->in_flight() > 0) {
      collect();
    }
    EXPECT_EQ(stepper.optimizer.steps(ctx), kSteps - 1);
    // All but the first of either kind in either place of a batch, and another one, since the first
    // takes memory.
    EXPECT_EQ(graph_launches(ctx), graph ? kSteps - 5 : 0);
    return stepper.state();
  };
  std::vector<StepResult> one_by_one, ahead, kernels_ahead;
  const std::vector<float> expected = run(0, false, one_by_one);
  EXPECT_EQ(run(1, false, kernels_ahead), expected);
  EXPECT_EQ(run(1, true, ahead), expected);
  for (std::size_t i = 0; i < kSteps; ++i) {
    EXPECT_EQ(ahead[i].non_finite, one_by_one[i].non_finite);
    EXPECT_EQ(ahead[i].non_finite.empty(), i != kSpoiled) << ahead[i].non_finite;
    EXPECT_EQ(ahead[i].samples, i % 3 == 2 ? 6 : 8);
    if (i != kSpoiled) {
      EXPECT_EQ(ahead[i].loss.stem, one_by_one[i].loss.stem);
      EXPECT_EQ(ahead[i].weighted, one_by_one[i].weighted);
      EXPECT_EQ(ahead[i].counts, one_by_one[i].counts);
      EXPECT_EQ(ahead[i].grad_norm, one_by_one[i].grad_norm);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AtOnceOrLate, StepsAheadOfCopies, testing::Bool());

// The same numbers as dropout's on the CPU, whose bits come from the step itself and not from keys
// in memory: without a graph, and as one that was captured at another step.
TEST_F(StepsAhead, GraphsDrawOtherDropoutInEachStep) {
  write_tiny_dataset(folder_ / "data", {.train = 26});
  const TrainingSetup setup = prepare_training(config());
  const auto losses = [&](const ExecutionContext& ctx, bool graph) {
    Stepper stepper(ctx, setup, graph);
    std::vector<double> result;
    const std::vector<Batch> batches = stepper.batches(0);
    const SampleBatch* pointers[] = {&batches[0], &batches[1]};
    for (int64_t i = 0; i < 4; ++i) {  // with a learning rate of 0, only dropout differs
      result.push_back(stepper.step->run(pointers, i, 0.0, stepper.times).loss.total);
    }
    return result;
  };
  const std::vector<double> device = losses(simt_device(memory_), true);
  EXPECT_EQ(losses(simt_device(memory_), false), device);
  const std::vector<double> cpu = losses(cpu_context(), true);
  std::vector<double> lowest;
  at_lowest_simd_level([&] { lowest = losses(cpu_context(), true); });
  expect_parity("losses", device, cpu, lowest);
  for (std::size_t i = 1; i < device.size(); ++i) {
    EXPECT_GT(std::abs(device[i] - device[0]), 1e-3) << "step " << i;
  }
}

// Scratch memory that the graphs work in may be another's then.
TEST_F(StepsAhead, GraphsAreGivenUpWhenScratchMemoryWasTaken) {
  write_tiny_dataset(folder_ / "data", {.train = 26});
  const TrainingSetup setup = prepare_training(config());
  const auto run = [&](bool graph) {
    const ExecutionContext ctx = simt_device(memory_);
    Stepper stepper(ctx, setup, graph);
    const std::vector<Batch> batches = stepper.batches(0);
    const SampleBatch* pointers[] = {&batches[0], &batches[1]};
    for (int64_t i = 0; i < 8; ++i) {
      const int64_t before = graph_launches(ctx);
      stepper.step->run(pointers, i, 1e-3, stepper.times);
      const bool launched = graph_launches(ctx) > before;
      // In each of the two places of a batch: a step as it is, before that one that takes memory;
      // then graphs.
      EXPECT_EQ(launched, graph && (i == 3 || i >= 6)) << "step " << i;
      if (i == 3) {
        WorkspaceScope scope(ctx.workspace());
        scope.take<std::byte>(8 << 20);
      }
    }
    return stepper.state();
  };
  const std::vector<float> expected = run(false);
  EXPECT_EQ(run(true), expected);
}

TEST_F(StepsAhead, GoWithoutGraphsWhereTheyAreRefused) {
  write_tiny_dataset(folder_ / "data", {.train = 26});
  const TrainingSetup setup = prepare_training(config());
  const auto run = [&](bool refused) {
    const ExecutionContext ctx = simt_device(memory_);
    simt_stream(ctx).refuses_captures = refused;
    Stepper stepper(ctx, setup);
    const std::vector<Batch> batches = stepper.batches(0);
    const SampleBatch* pointers[] = {&batches[0], &batches[1]};
    for (int64_t i = 0; i < 5; ++i) {
      stepper.step->run(pointers, i, 1e-3, stepper.times);
    }
    EXPECT_EQ(graph_launches(ctx), refused ? 0 : 2);
    return stepper.state();
  };
  const std::vector<float> expected = run(false);
  EXPECT_EQ(run(true), expected);
}

TEST_F(StepsAhead, ARunWithoutGraphsGivesTheSameBits) {
  write_tiny_dataset(folder_ / "data");
  train("graphs", true, {"training.num_epochs=3"});
  train("kernels", true, {"training.num_epochs=3", "training.cuda_graph=off"});
  EXPECT_EQ(read_all_tensors(folder_ / "kernels" / "final_model.safetensors"),
            read_all_tensors(folder_ / "graphs" / "final_model.safetensors"));
  EXPECT_EQ(read_metrics(folder_ / "kernels"), read_metrics(folder_ / "graphs"));
}

TEST_F(StepsAhead, ARunTellsOfSkippedStepsAsTheCpuDoes) {
  write_tiny_dataset(folder_ / "data", {.overflowing_sample = 13});
  const auto device = train("device", true);
  const auto cpu = train("cpu", false);
  EXPECT_EQ(device.skipped_steps, 2);
  EXPECT_EQ(device.steps, cpu.steps);
  const auto lines = read_metrics(folder_ / "device", "step");
  const auto expected = read_metrics(folder_ / "cpu", "step");
  ASSERT_EQ(lines.size(), expected.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    for (const char* key : {"step", "epoch", "lr", "samples", "skipped", "sample_ids"}) {
      EXPECT_EQ(lines[i].value(key, nlohmann::json()), expected[i].value(key, nlohmann::json()))
          << key;
    }
  }
}

TEST_F(StepsAhead, TooManySkippedStepsEndTheRunAtTheLastOfThem) {
  write_tiny_dataset(folder_ / "data");
  const auto error = [&](const std::string& name, bool on_device) -> std::string {
    try {
      train(name, on_device,
            {"training.grad_clip=0", "training.lr=1e30", "training.max_non_finite_steps=3",
             "training.num_epochs=10"});
    } catch (const NumericError& caught) {
      return caught.what();
    }
    return "none";
  };
  const std::string text = error("device", true);
  EXPECT_NE(text.find("3 steps in a row"), std::string::npos) << text;
  const auto lines = read_metrics(folder_ / "device", "step");
  ASSERT_GT(lines.size(), 3U);
  EXPECT_NE(text.find(fmt::format("stopped at step {}:", lines.size())), std::string::npos) << text;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].contains("skipped"), i + 3 >= lines.size());
  }
  error("cpu", false);
  EXPECT_EQ(read_metrics(folder_ / "cpu", "step").size(), lines.size());
}

// A run that dies while a step is in flight goes on from the last checkpoint.
TEST_F(StepsAhead, ARunThatDiesResumesToTheSameBits) {
  write_tiny_dataset(folder_ / "data");
  const std::vector<std::string> settings = {"training.gradient_accumulation_steps=2",
                                             "training.checkpoint_every_steps=2"};
  train("whole", true, settings);
  EXPECT_THROW(train("dies", true, settings,
                     [](int64_t step) -> bool {
                       if (step == 5) {
                         throw std::runtime_error("the end of the process");
                       }
                       return false;
                     }),
               std::runtime_error);
  const auto steps = read_metrics(folder_ / "dies", "step");
  EXPECT_EQ(steps.size(), 4U) << "the fifth step was in flight";
  train("dies", true, settings);
  EXPECT_EQ(read_all_tensors(folder_ / "dies" / "final_model.safetensors"),
            read_all_tensors(folder_ / "whole" / "final_model.safetensors"));
  EXPECT_EQ(read_metrics(folder_ / "dies"), read_metrics(folder_ / "whole"));
}

}  // namespace
}  // namespace stemfabric::test
