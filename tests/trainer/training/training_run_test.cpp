// Whole runs in this process: learning, exact resume, early stopping, moving average, accumulation.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "tests/support/bf16.h"
#include "tests/support/tiny_training.h"
#include "trainer/model/trained_model.h"
#include "trainer/training/checkpoint.h"
#include "trainer/training/training.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::read_all_tensors;
using test::read_metrics;
using test::TempDir;
using test::tiny_config;
using test::write_tiny_dataset;

class TrainingRun : public testing::Test {
 protected:
  TrainingRun() { set_log_level(LogLevel::kError); }
  ~TrainingRun() override { set_log_level(LogLevel::kInfo); }

  TrainingResult train(const std::string& run, const std::vector<std::string>& settings,
                       std::function<bool(int64_t)> stop = {}, const std::string& resume = "auto") {
    return run_training(tiny_config(data(), settings),
                        {.output_dir = folder_ / run, .resume = resume, .stop = std::move(stop)});
  }
  fs::path data() const { return folder_ / "data"; }
  fs::path run(const std::string& name) const { return folder_ / name; }
  std::string final_bytes(const std::string& name) const {
    return read_text_file(folder_ / name / "final_model.safetensors");
  }

  TempDir folder_;
};

// Everything that has a state: shuffling, dropout, moving average, accumulation, clipping, plateau
// schedule, warm-up, validation every second epoch.
const std::vector<std::string> kEverything = {
    "training.num_epochs=6",       "training.gradient_accumulation_steps=2",
    "training.ema_momentum=0.8",   "training.grad_clip=0.5",
    "training.optimizer=adamw",    "training.weight_decay=0.01",
    "training.reduce_patience=1",  "training.min_delta=1",
    "training.warmup_steps=4",     "training.lr=0.02",
    "validation.every=2",          "training.checkpoint_every_steps=5",
    "model.attention.dropout=0.1", "logging.tensorboard=true"};

TEST_F(TrainingRun, LossGoesDown) {
  write_tiny_dataset(data());
  const auto result = train("run", {"training.num_epochs=30", "training.lr=0.01",
                                    "model.ff_dropout=0", "model.attn_dropout=0"});
  EXPECT_EQ(result.end, TrainingResult::End::kEpochs);
  EXPECT_EQ(result.steps, 180);
  const auto validations = read_metrics(run("run"), "validation");
  ASSERT_EQ(validations.size(), 30U);
  EXPECT_LT(validations.back().at("val_loss").get<double>(),
            0.5 * validations.front().at("val_loss").get<double>());
  EXPECT_LT(*result.validation_loss, 0.5 * validations.front().at("val_loss").get<double>());
  for (const char* name : {"config.yaml", "final_model.h5", "training_history.json",
                           "training_summary.json", "checkpoints/best_model.safetensors",
                           "checkpoints/best_model.json", "checkpoints/step-000180/state.json"}) {
    EXPECT_TRUE(fs::exists(run("run") / name)) << name;
  }
  EXPECT_EQ(list_checkpoints(run("run") / "checkpoints").size(), 3U);  // keep_checkpoints
}

// Band energies are small numbers. Powers of two change no bit of a training: one on targets that
// are so much smaller, with a manifest that says so, is the same, and gives weights that answer in
// the data's units; also if it is interrupted, and from there on.
TEST_F(TrainingRun, TargetsOfAnySizeAreLearntAlike) {
  test::TinyData small;
  nlohmann::json scale = nlohmann::json::array();
  for (std::size_t s = 0; s < kStemCount; ++s) {
    small.target_factor[s] = std::ldexp(1.0F, 3 - 4 * static_cast<int>(s));
    scale.push_back(small.target_factor[s]);
  }
  write_tiny_dataset(data());
  const fs::path small_data = folder_ / "small";
  write_tiny_dataset(small_data, small);
  write_text_file(small_data / "manifest.json",
                  nlohmann::json{{"targets", {{"scale", scale}}}}.dump());
  const auto both = [&](const std::string& name, std::vector<std::string> settings,
                        const std::vector<std::string>& for_small = {}) {
    train(name, settings);
    settings.insert(settings.end(), for_small.begin(), for_small.end());
    settings.push_back("data.dataset_dir=" + small_data.string());
    train("small " + name, settings, [](int64_t step) { return step == 7; });
    train("small " + name, settings);
    ASSERT_EQ(read_metrics(run(name)), read_metrics(run("small " + name)));
    for (const char* file : {"final_model.safetensors", "checkpoints/best_model.safetensors"}) {
      const auto plain = read_all_tensors(run(name) / file);
      for (const auto& [tensor, values] : read_all_tensors(run("small " + name) / file)) {
        std::vector<float> expected = plain.at(tensor);
        for (std::size_t s = 0; s < kStemCount; ++s) {
          if (tensor.starts_with("heads." + std::string(kStemNames[s]) + ".out.")) {
            std::ranges::for_each(expected, [&](float& x) { x *= small.target_factor[s]; });
          }
        }
        ASSERT_EQ(values, expected) << file << ": " << tensor;
      }
    }
  };
  both("run", kEverything);
  const auto from = [&](const std::string& name) {
    return "training.init_from=" + (run(name) / "final_model.safetensors").string();
  };
  both("more", {"training.num_epochs=2", from("run")}, {from("small run")});
}

// 8 bits of precision change every loss a little, and what is learned not. After 180 steps of 4
// samples the two runs are at different weights: their losses differ by up to 12 %, to either side.
TEST_F(TrainingRun, Bf16LearnsAsFloat32Does) {
  write_tiny_dataset(data());
  const std::vector<std::string> settings = {"training.num_epochs=30", "training.lr=0.01",
                                             "model.ff_dropout=0", "model.attn_dropout=0"};
  train("fp32", settings);
  std::vector<std::string> narrow = settings;
  narrow.emplace_back("training.precision=bf16");
  train("bf16", narrow);
  const auto exact = read_metrics(run("fp32"), "validation");
  const auto bf16 = read_metrics(run("bf16"), "validation");
  ASSERT_EQ(bf16.size(), 30U);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double loss = exact[i].at("val_loss").get<double>();
    EXPECT_NEAR(bf16[i].at("val_loss").get<double>(), loss, 0.2 * loss) << "epoch " << i + 1;
  }
  EXPECT_LT(bf16.back().at("val_loss").get<double>(),
            0.1 * bf16.front().at("val_loss").get<double>());
  EXPECT_NE(final_bytes("bf16"), final_bytes("fp32"));
}

// evaluate, predict, separate and exports compute in float32 with the weights of a bf16 run: within
// the roundings of what the run's own validations compute.
TEST_F(TrainingRun, Bf16RunsModelIsOpenedInFloat32) {
  write_tiny_dataset(data());
  const std::vector<std::string> settings = {"training.num_epochs=4", "training.lr=0.01",
                                             "training.precision=bf16"};
  train("bf16", settings);
  const TrainingSetup setup = prepare_training(tiny_config(data(), settings));
  const Dataset& samples = *setup.data.validation;
  constexpr int64_t kBatch = 7;
  Batch batch(kBatch, samples.tokens(), samples.features(), samples.outputs());
  samples.gather(std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6}, batch);
  const ExecutionContext ctx({.threads = 1});
  const TrainedModel trained =
      open_trained_model(ctx, find_weights(run("bf16")), kBatch, samples.tokens());
  Separator rounding(ctx, trained.config(),
                     {.batch = kBatch, .tokens = samples.tokens(), .precision = DType::kBF16});
  const auto copy = [&](const TensorView& to, const TensorView& from) {
    ctx.stream().copy(to.data(), from.data(), from.bytes());
  };
  copy(rounding.weights(), trained.model->weights());
  copy(rounding.input_mean(), trained.model->input_mean());
  copy(rounding.input_scale(), trained.model->input_scale());
  const auto outputs = [&](Separator& model) {
    const ConstTensorView y =
        model.forward(batch.inputs.view(), batch.input_mask.view(), false, {});
    return std::vector<double>(y.as<float>(), y.as<float>() + y.elements());
  };
  const std::vector<double> exact = outputs(*trained.model);
  const std::vector<double> narrow = outputs(rounding);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    error += (narrow[i] - exact[i]) * (narrow[i] - exact[i]);
    size += exact[i] * exact[i];
  }
  EXPECT_EQ(trained.model->limits().precision, DType::kF32);
  EXPECT_LT(std::sqrt(error), test::bf16_forward_bound(trained.config().depth) * std::sqrt(size));
  EXPECT_GT(std::sqrt(error), 0x1p-12 * std::sqrt(size)) << "that was not bf16";
}

// Checkpoints hold float32 weights: the bf16 ones are made from them.
TEST_F(TrainingRun, Bf16ResumedEqualsUndisturbed) {
  write_tiny_dataset(data());
  std::vector<std::string> settings = kEverything;
  settings.emplace_back("training.precision=bf16");
  train("whole", settings);
  for (const int64_t at : {1, 7, 18}) {
    const std::string name = "cut-" + std::to_string(at);
    train(name, settings, [at](int64_t step) { return step == at; });
    EXPECT_EQ(train(name, settings).steps, 18);
    EXPECT_EQ(final_bytes(name), final_bytes("whole")) << "stopped after step " << at;
    EXPECT_EQ(read_metrics(run(name)), read_metrics(run("whole"))) << "stopped after step " << at;
  }
}

TEST_F(TrainingRun, ResumedAtAnyStepEqualsUndisturbed) {
  write_tiny_dataset(data());
  train("whole", kEverything);
  const auto metrics = read_metrics(run("whole"));
  const auto history = test::read_json_file(run("whole") / "training_history.json");
  const auto steps = read_metrics(run("whole"), "step");
  ASSERT_EQ(steps.size(), 18U);
  EXPECT_EQ(steps[11].at("lr"), 0.02);
  EXPECT_EQ(steps[12].at("lr"), 0.01);  // lowered after epoch 4: the schedule's state matters
  for (int64_t at = 1; at <= 18; ++at) {
    const std::string name = "cut-" + std::to_string(at);
    const auto first = train(name, kEverything, [at](int64_t step) { return step == at; });
    EXPECT_EQ(first.end, TrainingResult::End::kInterrupted);
    EXPECT_EQ(first.steps, at);
    EXPECT_FALSE(fs::exists(run(name) / "final_model.safetensors"));
    EXPECT_EQ(train(name, kEverything).steps, 18);
    EXPECT_EQ(final_bytes(name), final_bytes("whole")) << "stopped after step " << at;
    EXPECT_EQ(read_metrics(run(name)), metrics) << "stopped after step " << at;
    auto same_history = test::read_json_file(run(name) / "training_history.json");
    same_history["seconds"] = history["seconds"];
    EXPECT_EQ(same_history, history);
    EXPECT_EQ(read_text_file(run(name) / "checkpoints/best_model.safetensors"),
              read_text_file(run("whole") / "checkpoints/best_model.safetensors"));
  }
}

TEST_F(TrainingRun, StoppedAfterEveryStepEqualsUndisturbed) {
  write_tiny_dataset(data());
  train("whole", kEverything);
  int runs = 1;
  while (train("pieces", kEverything, [](int64_t) { return true; }).end ==
         TrainingResult::End::kInterrupted) {
    ASSERT_LT(++runs, 30);
  }
  EXPECT_EQ(runs, 19);  // the last one validates and writes the final files
  EXPECT_EQ(final_bytes("pieces"), final_bytes("whole"));
  EXPECT_EQ(read_metrics(run("pieces")), read_metrics(run("whole")));
  EXPECT_EQ(train("pieces", kEverything).steps, 18);  // a finished run finishes again
  EXPECT_EQ(final_bytes("pieces"), final_bytes("whole"));
  EXPECT_EQ(read_metrics(run("pieces")), read_metrics(run("whole")));
}

TEST_F(TrainingRun, ThreadsDoNotChangeTheResult) {
  write_tiny_dataset(data());
  train("one", kEverything);
  auto settings = kEverything;
  settings.emplace_back("training.threads=3");
  train("three", settings);
  EXPECT_EQ(final_bytes("one"), final_bytes("three"));
  EXPECT_EQ(read_metrics(run("one")), read_metrics(run("three")));
}

TEST_F(TrainingRun, LongerRunGoesOnFromAShorterOne) {
  write_tiny_dataset(data());
  train("long", {"training.num_epochs=4"});
  train("grown", {"training.num_epochs=2"});
  train("grown", {"training.num_epochs=4"});
  EXPECT_EQ(final_bytes("long"), final_bytes("grown"));
  // num_steps that end within an epoch leave no trace either.
  train("steps", {"training.num_steps=9", "training.num_epochs=4"});
  EXPECT_EQ(read_metrics(run("steps"), "step").size(), 9U);
  train("steps", {"training.num_epochs=4"});
  EXPECT_EQ(final_bytes("long"), final_bytes("steps"));
  EXPECT_EQ(read_metrics(run("long")), read_metrics(run("steps")));
}

TEST_F(TrainingRun, EarlyStoppingRestoresTheBestWeights) {
  write_tiny_dataset(data());
  // No drop is large enough after the first epoch, so that one stays the best.
  const auto result =
      train("run", {"training.num_epochs=20", "training.patience=3", "training.min_delta=1000"});
  EXPECT_EQ(result.end, TrainingResult::End::kEarlyStopping);
  EXPECT_EQ(result.epochs, 4);
  EXPECT_EQ(read_all_tensors(result.final_model),
            read_all_tensors(run("run") / "checkpoints/best_model.safetensors"));
  const auto best = test::read_json_file(run("run") / "checkpoints/best_model.json");
  EXPECT_EQ(best.at("epoch"), 1);
  EXPECT_EQ(best.at("step"), 6);
  EXPECT_EQ(*result.validation_loss,
            read_metrics(run("run"), "validation").front().at("val_loss").get<double>());
  EXPECT_NE(read_all_tensors(result.final_model),
            read_all_tensors(run("run") / "checkpoints/step-000024/model.safetensors"));
  const auto summary = test::read_json_file(run("run") / "training_summary.json");
  EXPECT_EQ(summary.at("end"), "early stopping");
  EXPECT_EQ(summary.at("final_model").at("sha256"), sha256_file(result.final_model));
}

TEST_F(TrainingRun, AFixedNumberOfStepsKeepsTheLastWeights) {
  write_tiny_dataset(data());
  const auto result = train("run", {"training.num_steps=8", "training.min_delta=1000"});
  EXPECT_EQ(result.end, TrainingResult::End::kSteps);
  EXPECT_EQ(result.steps, 8);
  EXPECT_EQ(read_all_tensors(result.final_model),
            read_all_tensors(run("run") / "checkpoints/step-000008/model.safetensors"));
}

// The same where the number of epochs that was set ends with that step.
TEST_F(TrainingRun, StepsWinOverEpochsThatEndTogether) {
  write_tiny_dataset(data());
  const auto result =
      train("run", {"training.num_steps=12", "training.num_epochs=2", "training.min_delta=1000"});
  EXPECT_EQ(result.end, TrainingResult::End::kSteps);
  EXPECT_EQ(read_all_tensors(result.final_model),
            read_all_tensors(run("run") / "checkpoints/step-000012/model.safetensors"));
}

// metrics.jsonl holds steps and nothing else.
TEST_F(TrainingRun, MetricsHaveOneObjectPerStep) {
  write_tiny_dataset(data());
  train("run", {"training.num_epochs=2"});
  std::ifstream file(run("run") / "metrics.jsonl");
  int64_t step = 0;
  for (std::string line; std::getline(file, line);) {
    const auto object = nlohmann::json::parse(line);
    EXPECT_EQ(object.at("step"), ++step);
    for (const char* key : {"loss", "loss_vocals", "loss_sub", "lr", "grad_norm"}) {
      EXPECT_TRUE(object.contains(key)) << key;
    }
  }
  EXPECT_EQ(step, 12);
  EXPECT_EQ(read_metrics(run("run"), "validation").size(), 2U);
  EXPECT_EQ(read_metrics(run("run"), "epoch").size(), 2U);
}

TEST_F(TrainingRun, MovingAverageIsValidatedAndExported) {
  write_tiny_dataset(data());
  const auto result = train("run", {"training.num_steps=12", "training.ema_momentum=0.9"});
  const auto final_weights = read_all_tensors(result.final_model);
  EXPECT_NE(final_weights,
            read_all_tensors(run("run") / "checkpoints/step-000012/model.safetensors"));
  // A step too short to change them validates these weights: the same loss as during training.
  const auto again =
      train("again", {"training.num_steps=1", "training.lr=1e-30", "training.min_lr=0",
                      "training.init_from=" + result.final_model.string()});
  EXPECT_EQ(*again.validation_loss,
            read_metrics(run("run"), "validation").back().at("val_loss").get<double>());
}

TEST_F(TrainingRun, WithoutValidationTheTrainingLossIsMonitored) {
  write_tiny_dataset(data(), {.validation = 0});
  const auto result =
      train("run", {"training.num_epochs=20", "training.patience=2", "training.min_delta=1000"});
  EXPECT_EQ(result.end, TrainingResult::End::kEarlyStopping);
  EXPECT_EQ(result.epochs, 3);
  EXPECT_FALSE(result.validation_loss);
  EXPECT_EQ(test::read_json_file(run("run") / "checkpoints/best_model.json").at("monitored"),
            "training loss");
}

// Two micro-batches of four are one batch of eight, with very unequal numbers of targets in them.
TEST_F(TrainingRun, AccumulationEqualsALargeBatch) {
  write_tiny_dataset(data());
  train("large", {"training.batch_size=8", "training.num_steps=6"});
  train("parts", {"training.batch_size=4", "training.gradient_accumulation_steps=2",
                  "training.num_steps=6"});
  const auto large = read_metrics(run("large"), "step");
  const auto parts = read_metrics(run("parts"), "step");
  ASSERT_EQ(large.size(), 6U);
  ASSERT_EQ(parts.size(), 6U);
  for (std::size_t i = 0; i < large.size(); ++i) {
    EXPECT_EQ(large[i].at("samples"), parts[i].at("samples"));
    // Sums of the same float32 terms in another order: a few parts in 10^7.
    EXPECT_NEAR(large[i].at("loss").get<double>(), parts[i].at("loss").get<double>(), 2e-6);
    EXPECT_NEAR(large[i].at("grad_norm").get<double>(), parts[i].at("grad_norm").get<double>(),
                2e-6);
  }
}

TEST_F(TrainingRun, ClippingScalesTheWholeGradient) {
  write_tiny_dataset(data());
  train("run", {"training.num_steps=1", "training.grad_clip=0.01"});
  const auto steps = read_metrics(run("run"), "step");
  const double norm = steps.front().at("grad_norm").get<double>();
  EXPECT_GT(norm, 0.05);  // before clipping
  const auto moments =
      read_all_tensors(run("run") / "checkpoints/step-000001/optimizer.safetensors");
  double squares = 0;
  for (const float m : moments.at("adam.first_moment")) {
    squares += static_cast<double>(m) * m;
  }
  EXPECT_NEAR(std::sqrt(squares), 0.1 * 0.01, 1e-8);  // (1 − beta1) · clip
}

TEST_F(TrainingRun, NonFiniteStepIsSkippedAndRecorded) {
  write_tiny_dataset(data(), {.overflowing_sample = 13});
  const auto result = train("run", {"training.num_epochs=2"});
  EXPECT_EQ(result.skipped_steps, 2);  // once per epoch
  int skipped = 0;
  for (const auto& step : read_metrics(run("run"), "step")) {
    if (step.contains("skipped")) {
      ++skipped;
      const auto& ids = step.at("sample_ids");
      EXPECT_NE(std::find(ids.begin(), ids.end(), "song-13"), ids.end());
      EXPECT_TRUE(step.at("grad_norm").is_null());
    } else {
      EXPECT_TRUE(step.at("loss").is_number());
    }
  }
  EXPECT_EQ(skipped, 2);
  for (const auto& [name, values] : read_all_tensors(result.final_model)) {
    for (const float value : values) {
      ASSERT_TRUE(std::isfinite(value)) << name;
    }
  }
}

TEST_F(TrainingRun, TooManyNonFiniteStepsInARowStopTheRun) {
  write_tiny_dataset(data());
  try {
    train("run", {"training.lr=1e30", "training.max_non_finite_steps=3", "training.num_epochs=10"});
    FAIL();
  } catch (const NumericError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("step "), std::string::npos) << text;
    EXPECT_NE(text.find("3 steps in a row"), std::string::npos) << text;
    EXPECT_NE(text.find("first in "), std::string::npos) << text;
  }
  const auto steps = read_metrics(run("run"), "step");
  ASSERT_GE(steps.size(), 3U);
  for (std::size_t i = steps.size() - 3; i < steps.size(); ++i) {
    EXPECT_TRUE(steps[i].contains("skipped"));
  }
}

// An epoch without a single good step has no loss; 0 would make it the best one.
TEST_F(TrainingRun, AnEpochOfSkippedStepsIsNotTheBest) {
  write_tiny_dataset(data(), {.validation = 0});
  train("run", {"training.num_epochs=3", "training.batch_size=22", "training.lr=1e25"});
  const auto epochs = read_metrics(run("run"), "epoch");
  ASSERT_EQ(epochs.size(), 3U);
  EXPECT_TRUE(epochs[0].at("best").get<bool>());
  for (const std::size_t i : {1U, 2U}) {
    EXPECT_TRUE(epochs[i].at("train_loss").is_null());
    EXPECT_FALSE(epochs[i].at("best").get<bool>());
  }
}

TEST_F(TrainingRun, DryRunWritesNothing) {
  write_tiny_dataset(data());
  const auto result =
      run_training(tiny_config(data()), {.output_dir = folder_ / "run", .dry_run = true});
  EXPECT_EQ(result.end, TrainingResult::End::kDryRun);
  EXPECT_TRUE(std::isfinite(result.train_loss));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

// Not set means "as the data were made", which is another thing than the default set explicitly.
TEST_F(TrainingRun, CorrectionWeightInEffectIsPartOfTheRun) {
  write_tiny_dataset(data());
  write_text_file(data() / "manifest.json", R"({"correctionWeight": 2})");
  const auto after_two = [](int64_t step) { return step == 2; };
  train("unset", {});
  train("one", {"loss.correction_weight=1"});
  EXPECT_NE(final_bytes("unset"), final_bytes("one"));
  const auto config = test::read_json_file(run("unset") / "training_summary.json").at("config");
  EXPECT_EQ(config.at("loss").at("correction_weight"), 2.0);

  train("cut", {}, after_two);
  try {
    train("cut", {"loss.correction_weight=1"});
    FAIL() << "resumed with another weight";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("loss.correction_weight is 1.0 here and 2.0 there"),
              std::string::npos)
        << error.what();
  }
  train("cut", {"loss.correction_weight=2"});
  EXPECT_EQ(final_bytes("cut"), final_bytes("unset"));
  // config.yaml of the run states it, so that it repeats the run.
  run_training(load_config(run("unset") / "config.yaml", {}),
               {.output_dir = folder_ / "again", .resume = "auto", .stop = {}});
  EXPECT_EQ(final_bytes("again"), final_bytes("unset"));
}

// What the data are made of is what their manifest says.
TEST_F(TrainingRun, DataSettingsAreThoseOfTheManifest) {
  write_tiny_dataset(data());
  write_text_file(data() / "manifest.json",
                  R"({"split": {"trainRatio": 0.7, "seed": 9}, "targets": {"kind": "bands"},
                      "features": {"layout": "packed"}})");
  train("run", {"training.num_steps=1"});
  const auto config = test::read_json_file(run("run") / "training_summary.json").at("config");
  EXPECT_EQ(config.at("data").at("train_ratio"), 0.7);
  EXPECT_EQ(config.at("data").at("split_seed"), 9);
  EXPECT_EQ(config.at("data").at("snapshot_targets"), "bands");
  EXPECT_EQ(config.at("features").at("layout"), "packed");
  EXPECT_EQ(config.at("features").at("packed_width"), 5);
  EXPECT_EQ(config.at("model").at("input_dim"), 5);
}

TEST_F(TrainingRun, ConfigOfARunRepeatsIt) {
  write_tiny_dataset(data());
  LoadedConfig config = tiny_config(data(), {"training.num_steps=14"});
  config.origins["training.num_epochs"] = "default";  // then the steps alone count
  run_training(config, {.output_dir = folder_ / "run", .resume = "auto", .stop = {}});
  const LoadedConfig again = load_config(run("run") / "config.yaml", {});
  EXPECT_EQ(again.config.model.input_dim, 5);
  EXPECT_EQ(again.config.training.num_epochs, 3);
  run_training(again, {.output_dir = folder_ / "again", .resume = "auto", .stop = {}});
  EXPECT_EQ(read_all_tensors(run("again") / "final_model.safetensors"),
            read_all_tensors(run("run") / "final_model.safetensors"));
}

}  // namespace
}  // namespace stemfabric
