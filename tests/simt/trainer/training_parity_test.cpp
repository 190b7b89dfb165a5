// Training steps, whole runs, evaluation and prediction on the device and on the CPU, from the same
// start. The device is the SIMT executor with memory that the host cannot touch: host code that
// reads or writes a tensor of the device without a copy ends this program.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "runtime/io/npy.h"
#include "runtime/memory/host_access.h"
#include "tests/simt/trainer/devices.h"
#include "tests/support/bf16.h"
#include "tests/support/simd_levels.h"
#include "tests/support/tiny_training.h"
#include "trainer/evaluation/evaluate.h"
#include "trainer/evaluation/predict.h"
#include "trainer/training/snapshot_task.h"
#include "trainer/training/train_step.h"
#include "trainer/training/training.h"
#include "trainer/training/training_setup.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using Values = std::vector<double>;

Values host_values(const ExecutionContext& ctx, const ConstTensorView& tensor) {
  const HostView host(ctx, tensor);
  return {host.as<float>(), host.as<float>() + tensor.elements()};
}

class TrainingParity : public testing::Test {
 protected:
  void SetUp() override {
    write_tiny_dataset(folder_ / "data", {.train = 14, .validation = 5});
    simt::set_schedule(simt::Schedule::kReverse, 1);
  }

  LoadedConfig config(const std::vector<std::string>& more = {},
                      const std::string& dataset = "data") const {
    std::vector<std::string> settings = {"model.depth=2", "training.num_epochs=2",
                                         "training.grad_clip=0.2", "training.ema_momentum=0.9"};
    settings.insert(settings.end(), more.begin(), more.end());
    return tiny_config(folder_ / dataset, settings);
  }

  // Trains into a folder of its own.
  TrainingResult train(const std::string& name, bool on_device,
                       const std::vector<std::string>& more = {}, int64_t stop_after = -1) {
    TrainOptions options{.output_dir = folder_ / name};
    options.make_context = [&] { return on_device ? simt_device(memory_) : cpu_context(); };
    options.stop = [=](int64_t step) { return step == stop_after; };
    return run_training(config(more), options);
  }

  // Losses of a run: one per step, then those of the validations.
  Values curve(const std::string& name, const char* kind, const char* key) const {
    Values losses;
    for (const auto& line : read_metrics(folder_ / name, kind)) {
      losses.push_back(line.at(key).get<double>());
    }
    return losses;
  }

  TempDir folder_;
  SimtDeviceMemory memory_;
};

// Everything that one optimiser step leaves behind, by name.
std::map<std::string, Values> one_step(const ExecutionContext& ctx, const LoadedConfig& loaded) {
  const TrainingSetup setup = prepare_training(loaded);
  const Dataset& data = *setup.data.train;
  constexpr int64_t kBatch = 5;
  Separator model(ctx, setup.model,
                  {.batch = kBatch,
                   .tokens = data.tokens(),
                   .training = true,
                   .precision = precision_dtype(loaded.config.training.precision),
                   .relu_masks = !ctx.is_cpu()});
  const ParameterTable& table = model.parameters();
  write_on_host(ctx, model.weights(),
                [&](const TensorView& host) { table.initialize(host.as<float>(), 3); });
  Optimizer::Options options = optimizer_options(loaded.config.training);
  // Adam divides by |gradient| + epsilon. A gradient of zero but for rounding would become a whole
  // step; with this epsilon rounding stays rounding.
  options.epsilon = 1e-2;
  Optimizer optimizer(ctx, options, table.block_elements(), table.decayed_elements());
  Ema ema(ctx, 0.9, model.weights());
  SnapshotObjective objective(ctx);
  SnapshotStage stage(ctx, {1, 0.5, 2, 1, 0.25, 1});
  TrainStep step(ctx, {.grad_clip = 0.05, .seed = 7}, model, optimizer, &ema, objective, stage);
  Batch first(kBatch, data.tokens(), data.features(), data.outputs(), ctx.staging());
  Batch second(kBatch, data.tokens(), data.features(), data.outputs(), ctx.staging());
  data.gather(std::vector<int64_t>{0, 1, 2, 3, 4}, first);
  data.gather(std::vector<int64_t>{5, 6, 7}, second);
  PhaseTimes times;
  const SampleBatch* batches[] = {&first, &second};
  const StepResult result = step.run(batches, 2, 1e-3, times);
  EXPECT_EQ(result.non_finite, "");
  EXPECT_EQ(result.samples, 8);
  EXPECT_GT(result.grad_norm, 0.05) << "the step is to be clipped";
  std::map<std::string, Values> values;
  values["loss"] = {result.loss.stem.begin(), result.loss.stem.end()};
  values["weighted loss"] = {result.weighted.begin(), result.weighted.end()};
  values["total loss"] = {result.loss.total};
  values["count"] = {result.counts.begin(), result.counts.end()};
  values["gradient norm"] = {result.grad_norm};
  const auto add = [&](const std::string& name, const ConstTensorView& block) {
    const Values all = host_values(ctx, block);
    for (const ParameterInfo& p : table.entries()) {
      Values& part = values[name + " of " + p.name];
      const int64_t columns = p.shape[-1];
      for (int64_t i = 0; i < p.shape.elements(); ++i) {
        part.push_back(
            all[static_cast<std::size_t>(p.offset + i / columns * p.row_stride + i % columns)]);
      }
    }
  };
  add("gradient", model.gradients());
  add("weights", model.weights());
  add("first moment", optimizer.first_moment());
  add("second moment", optimizer.second_moment());
  add("average", ema.average());
  return values;
}

Values roots(Values values) {
  for (double& value : values) {
    value = std::sqrt(value);
  }
  return values;
}

TEST_F(TrainingParity, OneStepAgreesTensorByTensor) {
  const int64_t launches = simt::launches();
  for (const std::string norm : {"post", "pre"}) {
    const LoadedConfig loaded =
        config({"model.norm_placement=" + norm, "model.attn_dropout=0.1", "model.ff_dropout=0.2",
                "training.optimizer=adamw", "training.weight_decay=0.1"});
    const auto device = one_step(simt_device(memory_), loaded);
    const auto best = one_step(cpu_context(), loaded);
    std::map<std::string, Values> lowest;
    at_lowest_simd_level([&] { lowest = one_step(cpu_context(), loaded); });
    ASSERT_EQ(device.size(), best.size());
    for (const auto& [name, values] : best) {
      // In exact arithmetic these gradients are zero; what is left, and its squares, is rounding of
      // either side.
      const bool only_rounding =
          name.ends_with("attn.k.bias") &&
          (name.starts_with("gradient of") || name.find("moment of") != std::string::npos);
      if (!only_rounding) {
        // A second moment as the size of which it is the square, as errors in the gradient are: its
        // largest values then do not hide those of the others.
        const bool square = name.starts_with("second moment of");
        const auto sizes = [&](const Values& given) { return square ? roots(given) : given; };
        expect_parity(norm + ": " + name, sizes(device.at(name)), sizes(values),
                      sizes(lowest.at(name)));
      }
    }
    EXPECT_EQ(device.at("count"), best.at("count"));
  }
  EXPECT_GT(simt::launches(), launches + 100) << "no kernel ran";
}

double rms_distance(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += (a[i] - b[i]) * (a[i] - b[i]);
  }
  return std::sqrt(sum / static_cast<double>(a.size()));
}

// The tensors of a kind ("gradient of …") one after the other.
std::map<std::string, Values> by_kind(const std::map<std::string, Values>& step) {
  std::map<std::string, Values> kinds;
  for (const auto& [name, values] : step) {
    Values& all = kinds[name.substr(0, name.find(" of "))];
    all.insert(all.end(), values.begin(), values.end());
  }
  return kinds;
}

// In bf16 the float32 step stands for the exact one: it is 2^15 times nearer to it. The CPU's bf16
// step is the naive computation (tolerance.h). Where rounding moves a pre-activation across 0, the
// gradient jumps; that happens to either at other places. So the rule is for all parameters
// together; each one's gradient keeps to the bound of all roundings, measured by the size of all.
// The gradient's norm, one number to which the CPU's may be near by chance, keeps to the triangle
// inequality.
void expect_bf16_step(const std::string& what, const std::map<std::string, Values>& device,
                      const std::map<std::string, Values>& cpu,
                      const std::map<std::string, Values>& exact, int64_t depth) {
  const auto device_kinds = by_kind(device);
  const auto cpu_kinds = by_kind(cpu);
  const auto exact_kinds = by_kind(exact);
  for (const auto& [kind, values] : exact_kinds) {
    if (kind == "gradient norm") {
      continue;
    }
    expect_within_bound(what + ": " + kind, device_kinds.at(kind), cpu_kinds.at(kind), values,
                        kBf16Floor);
  }
  const Values& gradient = exact_kinds.at("gradient");
  const double root_count = std::sqrt(static_cast<double>(gradient.size()));
  const double size = rms_distance(gradient, Values(gradient.size()));
  EXPECT_NEAR(exact.at("gradient norm")[0], root_count * size, 1e-5 * root_count * size);
  EXPECT_NEAR(
      device.at("gradient norm")[0], exact.at("gradient norm")[0],
      root_count * rms_distance(device_kinds.at("gradient"), gradient) + 1e-5 * root_count * size)
      << what;
  for (const auto& [name, values] : exact) {
    if (name.starts_with("gradient of ")) {
      const double own = rms_distance(values, Values(values.size()));
      EXPECT_LT(rms_distance(device.at(name), values),
                bf16_gradient_bound(depth) * std::max(own, size))
          << what << ": " << name;
    }
  }
}

// "long": attention goes over two tiles of keys, the second one cut off, with heads as wide as a
// step of the tensor cores; its weights are dropped, queries and keys turned.
TEST_F(TrainingParity, OneStepInBf16AgreesWithTheCpus) {
  write_tiny_dataset(folder_ / "long", {.train = 8, .validation = 1, .tokens = 43});
  struct Case {
    const char* name;
    const char* dataset;
    std::vector<std::string> settings;
  };
  for (auto [name, dataset, settings] : {
           Case{"post", "data", {}},
           Case{"pre", "data", {"model.norm_placement=pre"}},
           Case{"long",
                "long",
                {"model.dim=32", "model.attention.dropout=0.2", "model.positions=rotary"}},
       }) {
    settings.insert(settings.end(), {"model.attn_dropout=0.1", "model.ff_dropout=0.2"});
    const auto exact = one_step(cpu_context(), config(settings, dataset));
    settings.emplace_back("training.precision=bf16");
    const LoadedConfig bf16 = config(settings, dataset);
    const auto device = one_step(simt_device(memory_), bf16);
    const auto cpu = one_step(cpu_context(), bf16);
    ASSERT_EQ(device.size(), exact.size());
    expect_bf16_step(name, device, cpu, exact, bf16.config.model.depth);
    EXPECT_EQ(device.at("count"), exact.at("count"));
    EXPECT_NE(device.at("gradient norm"), exact.at("gradient norm")) << "that was not bf16";
  }
}

TEST_F(TrainingParity, ARunInBf16FollowsFloat32sLossCurve) {
  train("exact", false);
  train("device", true, {"training.precision=bf16"});
  train("cpu", false, {"training.precision=bf16"});
  for (const auto& [kind, key] :
       {std::pair<const char*, const char*>{"step", "loss"}, {"validation", "val_loss"}}) {
    expect_within_bound(std::string(kind) + " losses", curve("device", kind, key),
                        curve("cpu", kind, key), curve("exact", kind, key), kBf16Floor);
  }
}

TEST_F(TrainingParity, ARunFollowsTheCpusLossCurve) {
  train("device", true);
  train("cpu", false);
  at_lowest_simd_level([&] { train("lowest", false); });
  for (const auto& [kind, key, size] :
       {std::tuple<const char*, const char*, std::size_t>{"step", "loss", 8},
        {"validation", "val_loss", 2}}) {
    const Values best = curve("cpu", kind, key);
    EXPECT_EQ(best.size(), size);
    expect_parity(std::string(kind) + " losses", curve("device", kind, key), best,
                  curve("lowest", kind, key));
  }
}

TEST_F(TrainingParity, ARunRepeatsToTheLastBitUnderAnyOrderOfThreads) {
  train("first", true);
  simt::set_schedule(simt::Schedule::kForward);
  train("second", true);
  simt::set_schedule(simt::Schedule::kShuffled, 5);
  train("third", true, {}, 3);  // stops after three steps
  train("third", true);         // and goes on from its checkpoint
  const auto first = read_all_tensors(folder_ / "first" / "final_model.safetensors");
  EXPECT_EQ(read_all_tensors(folder_ / "second" / "final_model.safetensors"), first);
  EXPECT_EQ(read_all_tensors(folder_ / "third" / "final_model.safetensors"), first);
  EXPECT_EQ(read_metrics(folder_ / "second"), read_metrics(folder_ / "first"));
  EXPECT_EQ(read_metrics(folder_ / "third"), read_metrics(folder_ / "first"));
}

TEST_F(TrainingParity, ARunInBf16RepeatsToTheLastBitUnderAnyOrderOfThreads) {
  const std::vector<std::string> settings = {"training.precision=bf16", "training.num_epochs=1",
                                             "model.attention.dropout=0.1",
                                             "model.positions=rotary"};
  train("first", true, settings);
  simt::set_schedule(simt::Schedule::kShuffled, 5);
  train("second", true, settings, 2);  // stops after two steps
  train("second", true, settings);     // and goes on from its checkpoint
  EXPECT_EQ(read_all_tensors(folder_ / "second" / "final_model.safetensors"),
            read_all_tensors(folder_ / "first" / "final_model.safetensors"));
  EXPECT_EQ(read_metrics(folder_ / "second"), read_metrics(folder_ / "first"));
  EXPECT_EQ(read_metrics(folder_ / "first", "step").size(), 4U);
}

// The swap goes by pieces of 4 MiB.
TEST_F(TrainingParity, AverageAndWeightsOfAnySizeChangePlaces) {
  const ExecutionContext ctx = simt_device(memory_);
  constexpr int64_t kElements = (int64_t{5} << 18) + 3;  // a whole piece and a part of one
  std::vector<float> first(static_cast<std::size_t>(kElements));
  for (std::size_t i = 0; i < first.size(); ++i) {
    first[i] = static_cast<float>(i % 65521);
  }
  std::vector<float> second = first;
  std::reverse(second.begin(), second.end());
  Tensor weights({kElements}, DType::kF32, ctx.resource());
  copy_from_host(ctx, weights.view(), first.data());
  Ema ema(ctx, 0.9, weights.view());
  copy_from_host(ctx, weights.view(), second.data());
  const auto values = [&](const ConstTensorView& tensor) {
    const HostView host(ctx, tensor);
    return std::vector<float>(host.as<float>(), host.as<float>() + kElements);
  };
  {
    const EmaSwap swap(ctx, &ema, weights.view());
    EXPECT_TRUE(values(weights.view()) == first);
    EXPECT_TRUE(values(ema.average()) == second);
  }
  EXPECT_TRUE(values(weights.view()) == second);
  EXPECT_TRUE(values(ema.average()) == first);
}

TEST_F(TrainingParity, PredictionsAndScoresAgree) {
  train("run", false);
  const fs::path model = folder_ / "run" / "final_model.safetensors";
  Tensor x = Tensor::zeros({5, 6, 5}, DType::kF32);
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.as<float>()[i] = tiny_random(4, 1, i);
  }
  write_npy(folder_ / "x.npy", x.view());
  const auto run = [&](const std::string& name, const ExecutionContext& ctx) {
    predict(ctx, {.model = model,
                  .input = folder_ / "x.npy",
                  .mask = {},
                  .output_dir = folder_ / name,
                  .batch_size = 2});
    evaluate(ctx, {.dataset_dir = folder_ / "data",
                   .model = model,
                   .output_dir = folder_ / name,
                   .batch_size = 2});
    Values values;
    for (const std::string_view stem : kStemNames) {
      const Tensor y = read_npy(folder_ / name / (std::string(stem) + ".npy"));
      values.insert(values.end(), y.as<float>(), y.as<float>() + y.elements());
    }
    return values;
  };
  const Values device = run("device", simt_device(memory_));
  const Values best = run("best", cpu_context());
  Values lowest;
  at_lowest_simd_level([&] { lowest = run("lowest", cpu_context()); });
  expect_parity("predictions", device, best, lowest);
  EXPECT_TRUE(fs::exists(folder_ / "device" / "evaluation_report.json"));
}

TEST_F(TrainingParity, OutOfMemorySaysWhoAskedAndWhichBatchSizeFits) {
  write_tiny_dataset(folder_ / "long", {.train = 32, .validation = 0, .tokens = 32});
  const auto large = [&](int64_t batch_size) {
    return tiny_config(folder_ / "long", {"model.dim=32", "model.dim_ff=64", "training.num_steps=1",
                                          "training.batch_size=" + std::to_string(batch_size)});
  };
  const auto half =
      static_cast<int64_t>(plan_activation_bytes(prepare_training(large(32)).model,
                                                 {.batch = 32, .tokens = 32, .training = true})) /
      2;
  SimtDeviceMemory small(half);
  TrainOptions options{.output_dir = folder_ / "small"};
  options.make_context = [&] { return simt_device(small); };
  std::string text;
  try {
    run_training(large(32), options);
  } catch (const OutOfMemoryError& error) {
    text = error.what();
  }
  EXPECT_NE(text.find("activations asked for"), std::string::npos) << text;
  EXPECT_NE(text.find("training.batch_size 32 is planned to take"), std::string::npos) << text;
  const std::string before = "were free; training.batch_size ";
  const std::size_t at = text.find(before);
  ASSERT_NE(at, std::string::npos) << text;
  const int64_t fits = std::stoll(text.substr(at + before.size()));
  EXPECT_GT(fits, 4);
  EXPECT_LT(fits, 16);
  EXPECT_EQ(run_training(large(fits), options).steps, 1);
}

}  // namespace
}  // namespace stemfabric::test
