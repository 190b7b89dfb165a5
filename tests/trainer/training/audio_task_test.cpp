#include "trainer/training/audio_task.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/stft/stft.h"
#include "kernels/stft_features/stft_features.h"
#include "tests/trainer/audio_data/mixed_chunks.h"
#include "tests/trainer/audio_data/tiny_audio.h"
#include "trainer/training/training_setup.h"

namespace stemfabric {
namespace {

using test::TempDir;
using test::tiny_audio_config;

constexpr std::size_t kPerc = 4;

class AudioTaskTest : public testing::Test {
 protected:
  AudioTaskTest()
      : data_(test::write_tiny_audio_dataset(folder_.path(), 3, 12000, /*one_lacks=*/true)),
        setup_(prepare_training(tiny_audio_config(
            data_, {"augmentations.enable=false", "loss.stem_weights=[1, 2, 1, 1, 1, 1]"}))),
        task_(make_training_task(setup_)) {}

  // Chunks of every track: one has no perc.
  std::unique_ptr<SampleBatch> batch() const {
    const SampleSource& source = task_->train();
    auto batch = source.make_batch(source.size() + 1, host_resource());
    std::vector<int64_t> samples;
    for (int64_t i = 0; i < source.size(); ++i) {
      samples.push_back(i);
    }
    source.fill(0, samples, *batch);
    return batch;
  }

  TempDir folder_;
  std::filesystem::path data_;
  TrainingSetup setup_;
  std::unique_ptr<TrainingTask> task_;
  ExecutionContext ctx_{ExecutionContext::Options{.threads = 2}};
};

TEST_F(AudioTaskTest, StagesFeaturesAndSpectraOfABatch) {
  const auto samples = batch();
  const AudioBatch& audio = dynamic_cast<const ChunkBatch&>(*samples).audio;
  const test::MixedChunks chunks = test::mixed(ctx_, audio);
  const auto stage = task_->make_stage(ctx_);
  const StagedBatch staged = stage->put(*samples);
  const int64_t size = samples->size;
  ASSERT_EQ(staged.size, size);
  ASSERT_EQ(staged.inputs.shape(), (Shape{size, 33, 256}));
  ASSERT_EQ(staged.targets.shape(), (Shape{6, size, 2, 33, 257, 2}));
  ASSERT_FALSE(staged.target_mask);
  Tensor features({1, 33, 256}, DType::kF32);
  Tensor spectra({1, 2, 33, 257, 2}, DType::kF32);
  for (int64_t b = 0; b < size; ++b) {
    stft_features(ctx_, {.signal = chunks.mixture.view().slice(0, b, 1),
                         .sample_rate = test::kTinyRate,
                         .n_fft = 512,
                         .hop_length = 128,
                         .features = features.view(),
                         .spectra = spectra.view()});
    const auto equal = [](const ConstTensorView& a, const Tensor& want) {
      return a.elements() == want.elements() &&
             std::equal(want.as<float>(), want.as<float>() + want.elements(), a.as<float>());
    };
    EXPECT_TRUE(equal(staged.inputs.slice(0, b, 1), features));
    EXPECT_TRUE(equal(staged.mixture.slice(0, b, 1), spectra));
    for (int64_t s = 0; s < kStemCount; ++s) {
      EXPECT_EQ(staged.weight.as<float>()[b * kStemCount + s], s == 1 ? 2 : 1);
      EXPECT_EQ(staged.present.as<uint8_t>()[b * kStemCount + s],
                audio.presence.as<uint8_t>()[b * kStemCount + s]);
      const ConstTensorView stem = chunks.stems.view().slice(0, b, 1).slice(1, s, 1).reshape(
          {1, 2, chunks.stems.shape()[3]});
      stft(ctx_, {.signal = stem, .n_fft = 512, .hop_length = 128, .spectra = spectra.view()});
      EXPECT_TRUE(equal(staged.targets.slice(0, s, 1).slice(1, b, 1), spectra)) << b << " " << s;
    }
  }
}

TEST_F(AudioTaskTest, AStemThatIsNotThereCountsNowhere) {
  const auto samples = batch();
  const auto* presence = dynamic_cast<const ChunkBatch&>(*samples).audio.presence.as<uint8_t>();
  int64_t with_perc = 0;
  for (int64_t b = 0; b < samples->size; ++b) {
    with_perc += presence[b * kStemCount + static_cast<int64_t>(kPerc)];
  }
  const auto stage = task_->make_stage(ctx_);
  const auto objective = task_->make_objective(ctx_);
  objective->count(stage->put(*samples));
  const StemSums sums = objective->read();
  constexpr double kElements = 2 * 33 * 257;  // of a chunk
  EXPECT_EQ(sums.count[0], kElements * static_cast<double>(samples->size));
  EXPECT_EQ(sums.count[kPerc], kElements * static_cast<double>(with_perc));
}

// Real masks of sigmoid(0) = 1/2 everywhere: the estimate of every stem is half the mixture.
TEST_F(AudioTaskTest, ChunkSdrIsThatOfTheWaveforms) {
  const auto samples = batch();
  const AudioBatch& audio = dynamic_cast<const ChunkBatch&>(*samples).audio;
  const test::MixedChunks chunks = test::mixed(ctx_, audio);
  const auto stage = task_->make_stage(ctx_);
  const StagedBatch staged = stage->put(*samples);
  const Tensor prediction = Tensor::zeros({6, staged.size, 33, 32}, DType::kF32);
  const auto metric = task_->make_metric(ctx_);
  ASSERT_TRUE(metric);
  metric->reset();
  metric->add(staged, prediction.view());
  const StemValues have = metric->values();
  const int64_t n = audio.frames;
  for (int64_t s = 0; s < kStemCount; ++s) {
    double sum = 0;
    int64_t count = 0;
    for (int64_t b = 0; b < staged.size; ++b) {
      if (audio.presence.as<uint8_t>()[b * kStemCount + s] == 0) {
        continue;
      }
      double energy = 0;
      double error = 0;
      for (int64_t i = 0; i < 2 * n; ++i) {
        const double x =
            static_cast<double>(chunks.stems.as<float>()[(b * kStemCount + s) * 2 * n + i]);
        const double e = x - 0.5 * static_cast<double>(chunks.mixture.as<float>()[b * 2 * n + i]);
        energy += x * x;
        error += e * e;
      }
      sum += 10 * std::log10(energy / error);
      ++count;
    }
    EXPECT_NEAR(have[static_cast<std::size_t>(s)], sum / static_cast<double>(count), 1e-4);
  }
}

TEST_F(AudioTaskTest, PlannedBytesAreThoseOfTheTensors) {
  const auto samples = batch();
  const auto stage = task_->make_stage(ctx_);
  const StagedBatch staged = stage->put(*samples);
  const auto of_one = [&](const ConstTensorView& view) {
    return view.bytes() / static_cast<std::size_t>(staged.size);
  };
  EXPECT_EQ(task_->staged_bytes(1, true), of_one(staged.inputs) + of_one(staged.mixture) +
                                              of_one(staged.targets) + of_one(staged.signals) +
                                              std::size_t{2 * 4096 * 4});  // and the mixture
  EXPECT_EQ(task_->train().batch_bytes(1), static_cast<std::size_t>(14 * 4096 * 4));
  EXPECT_EQ(task_->staged_bytes(1, false) - task_->staged_bytes(1, true),
            static_cast<std::size_t>(2 * 14 * 4096 * 4));
}

}  // namespace
}  // namespace stemfabric
