// Whole runs on an audio data set in this process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <thread>

#include "kernels/stft_features/feature_layout.h"
#include "kernels/stft_features/stft_features.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "tests/support/tiny_training.h"
#include "tests/trainer/audio_data/mixed_chunks.h"
#include "tests/trainer/audio_data/tiny_audio.h"
#include "trainer/model/weights_file.h"
#include "trainer/training/audio_setup.h"
#include "trainer/training/training.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::read_metrics;
using test::TempDir;
using test::tiny_audio_config;
using testing::HasSubstr;

constexpr int64_t kFrames = 20000;

class AudioRun : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    data_ = new TempDir;
    set_log_level(LogLevel::kError);
    test::write_tiny_audio_dataset(data_->path(), 4, kFrames, /*one_lacks=*/true);
  }
  static void TearDownTestSuite() {
    set_log_level(LogLevel::kInfo);
    delete data_;
  }

  static fs::path data() { return data_->path() / "data"; }
  fs::path run(const std::string& name) const { return folder_ / name; }
  TrainingResult train(const std::string& name, const std::vector<std::string>& settings,
                       std::function<bool(int64_t)> stop = {}) const {
    return run_training(tiny_audio_config(data(), settings),
                        {.output_dir = run(name), .stop = std::move(stop)});
  }
  static std::string error_of(const std::vector<std::string>& settings,
                              const fs::path& dataset = data()) {
    try {
      prepare_training(tiny_audio_config(dataset, settings));
    } catch (const ConfigError& caught) {
      return caught.what();
    }
    return "no error";
  }

  static TempDir* data_;
  TempDir folder_;
};
TempDir* AudioRun::data_ = nullptr;

TEST_F(AudioRun, LearnsToSeparate) {
  for (const char* mask : {"real", "complex"}) {
    const std::string model = std::string("model.mask=") + mask;
    const TrainingResult result = train(
        mask, {model, "training.num_epochs=12", "training.lr=0.01", "data.samples_per_epoch=12",
               "training.schedule=constant", "augmentations.enable=false", "training.patience=0"});
    EXPECT_EQ(result.steps, 72);
    const auto epochs = read_metrics(run(mask), "epoch");
    ASSERT_EQ(epochs.size(), 12U);
    // The mixture of six equally loud stems has -7 dB.
    EXPECT_GT(epochs.back().at("val_sdr").get<double>(),
              epochs.front().at("val_sdr").get<double>() + 3)
        << mask;
    EXPECT_LT(epochs.back().at("val_loss").get<double>(),
              0.6 * epochs.front().at("val_loss").get<double>());
    const auto validations = read_metrics(run(mask), "validation");
    EXPECT_EQ(validations.back().at("val_sdr_bass"), epochs.back().at("val_sdr_bass"));
  }
}

TEST_F(AudioRun, ResumedEqualsUndisturbed) {
  const std::vector<std::string> settings = {
      "training.num_epochs=3",     "data.samples_per_epoch=7",
      "model.mask=complex",        "training.gradient_accumulation_steps=2",
      "training.ema_momentum=0.8", "model.attn_dropout=0.1",
      "validation.every=2"};
  train("whole", settings);
  for (const int64_t at : {1, 3}) {
    const std::string name = "stopped-" + std::to_string(at);
    train(name, settings, [&](int64_t step) { return step == at; });
    train(name, settings);
    EXPECT_EQ(read_text_file(run(name) / "final_model.safetensors"),
              read_text_file(run("whole") / "final_model.safetensors"));
  }
  train("threads", [&] {
    auto more = settings;
    more.emplace_back("training.threads=1");
    return more;
  }());
  EXPECT_EQ(read_text_file(run("threads") / "final_model.safetensors"),
            read_text_file(run("whole") / "final_model.safetensors"));
}

TEST_F(AudioRun, WeightsCarryTheirAudioAndStatistics) {
  train("run", {"data.samples_per_epoch=2"});
  const fs::path weights = run("run") / "final_model.safetensors";
  const ModelConfig model = read_model_config(weights);
  EXPECT_EQ(model.mask, "real");
  ASSERT_TRUE(model.audio);
  EXPECT_EQ(model.audio->sample_rate, test::kTinyRate);
  EXPECT_EQ(model.audio->n_fft, 512);
  EXPECT_EQ(model.audio->hop_length, 128);
  EXPECT_EQ(model.audio->chunk_size, 4096);
  EXPECT_EQ(model.input_dim, 256);
  EXPECT_EQ(model.output_dim, 32);
  EXPECT_EQ(model.max_sequence_length, 33);
  const ParameterTable table(model);
  std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
  const InputStatistics stored = read_weights(weights, table, block.data());
  const TrainingSetup setup = prepare_training(tiny_audio_config(data()));
  EXPECT_EQ(stored.mean, setup.statistics.mean);
  EXPECT_EQ(stored.scale, setup.statistics.scale);
  // A run that starts from them takes model and statistics from there.
  const TrainingSetup next = prepare_training(tiny_audio_config(
      data(), {"training.init_from=" + weights.string(), "augmentations.enable=false"}));
  EXPECT_EQ(next.statistics.mean, stored.mean);
}

TEST_F(AudioRun, ValidationLossAlone) {
  train("run", {"data.samples_per_epoch=2", "validation.metrics=loss"});
  EXPECT_FALSE(read_metrics(run("run"), "epoch").back().contains("val_sdr"));
}

TEST_F(AudioRun, WrongSettingsAreNamed) {
  EXPECT_THAT(error_of({"model.mask=none"}),
              HasSubstr("model.mask is none, but " + data().string() + " is an audio data set"));
  EXPECT_THAT(error_of({"model.output_dim=7"}),
              HasSubstr("model.output_dim is 7, but model.mask, mask_channels and mask_bands make "
                        "it 32; leave it at 0"));
  EXPECT_THAT(error_of({"model.input_dim=7"}), HasSubstr("the features of a frame are 256"));
  EXPECT_THAT(error_of({"model.max_sequence_length=32"}),
              HasSubstr("a chunk of audio.chunk_size 4096 has 33 frames"));
  test::write_tiny_dataset(folder_ / "snapshots");
  EXPECT_THAT(error_of({}, folder_ / "snapshots"),
              HasSubstr("model.mask is real, but " + (folder_ / "snapshots").string() +
                        " holds snapshots"));
}

// Less than kStatisticsChunks chunks: all of them.
TEST_F(AudioRun, StatisticsAreThoseOfTheTrainingSplit) {
  const TrainingSetup setup = prepare_training(tiny_audio_config(data()));
  const ExecutionContext ctx(ExecutionContext::Options{.threads = 2});
  const auto tracks = setup.audio->train.dataset().tracks();
  const AudioDataset chunks({tracks.begin(), tracks.end()},
                            {.chunk_frames = 4096, .augmentations = {}, .fixed = true});
  ASSERT_LE(chunks.size(), kStatisticsChunks);
  std::vector<std::vector<double>> values(256);
  for (int64_t i = 0; i < chunks.size(); ++i) {
    AudioBatch batch = chunks.make_batch(1);
    chunks.gather(std::span(&i, 1), 0, batch);
    Tensor features({1, 33, 256}, DType::kF32);
    const test::MixedChunks mixed = test::mixed(ctx, batch);
    stft_features(ctx, {.signal = mixed.mixture.view(),
                        .sample_rate = test::kTinyRate,
                        .n_fft = 512,
                        .hop_length = 128,
                        .features = features.view()});
    for (int64_t at = 0; at < features.elements(); ++at) {
      values[static_cast<std::size_t>(at % 256)].push_back(
          static_cast<double>(features.as<float>()[at]));
    }
  }
  for (std::size_t f = 0; f < 256; ++f) {
    double mean = 0;
    for (const double x : values[f]) {
      mean += x / static_cast<double>(values[f].size());
    }
    double variance = 0;
    for (const double x : values[f]) {
      variance += (x - mean) * (x - mean) / static_cast<double>(values[f].size());
    }
    EXPECT_NEAR(static_cast<double>(setup.statistics.mean[f]), mean, 1e-5 + 1e-6 * std::abs(mean));
    const double deviation = std::sqrt(variance);
    if (deviation > 1e-3) {
      EXPECT_NEAR(static_cast<double>(setup.statistics.scale[f]) * deviation, 1, 1e-5) << f;
    }
  }
  const InputStatistics one =
      audio_statistics(setup.audio->train, setup.config.audio, /*threads=*/1);
  EXPECT_EQ(one.mean, setup.statistics.mean);
  EXPECT_EQ(one.scale, setup.statistics.scale);

  AudioConfig audio = setup.config.audio;
  audio.feature_groups = "spectral";
  const InputStatistics spectral = audio_statistics(setup.audio->train, audio, /*threads=*/1);
  EXPECT_EQ(spectral.mean, one.mean);
  for (std::size_t f = 0; f < spectral.scale.size(); ++f) {
    EXPECT_EQ(spectral.scale[f], f < kSpectralFeatures ? one.scale[f] : 0.0F) << f;
  }
}

// More threads than a rank has would take cores from other ranks.
TEST_F(AudioRun, StatisticsTakeTheThreadsThatAreGiven) {
  const auto threads = [] {
    const fs::directory_iterator tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  };
  const LoadedConfig config = tiny_audio_config(data(), {"training.threads=3"});
  const auto before = threads();
  auto most = before;
  std::atomic<bool> done = false;
  std::jthread work([&] {
    for (int i = 0; i < 20; ++i) {
      prepare_training(config, /*threads=*/1);
    }
    done = true;
  });
  while (!done) {
    most = std::max(most, threads());
  }
  EXPECT_LE(most, before + 1);
}

}  // namespace
}  // namespace stemfabric
