// Training on audio and separation on the device and on the CPU, as training_parity_test.cpp: the
// device's memory is none that the host can touch.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "tests/simt/trainer/devices.h"
#include "tests/support/simd_levels.h"
#include "tests/support/tiny_training.h"
#include "tests/trainer/audio_data/mixed_chunks.h"
#include "tests/trainer/audio_data/tiny_audio.h"
#include "trainer/evaluation/bss_evaluation.h"
#include "trainer/separation/separate_signal.h"
#include "trainer/training/audio_task.h"
#include "trainer/training/training.h"

namespace stemfabric::test {
namespace {

using Values = std::vector<double>;

// The device's transform adds in another order than the CPU's, at any SIMD level: log2(n_fft) = 9
// roundings of a spectrum, 5e-7 of it. A loss compares two of them that are alike, and four steps
// follow each other: 20 times that.
void expect_close(const std::string& what, const Values& device, const Values& cpu) {
  ASSERT_EQ(device.size(), cpu.size());
  for (std::size_t i = 0; i < cpu.size(); ++i) {
    EXPECT_NEAR(device[i], cpu[i], 20 * 9 * 0x1p-24 * std::abs(cpu[i])) << what << " " << i;
  }
}

class AudioParity : public testing::Test {
 protected:
  AudioParity() : data_(write_tiny_audio_dataset(folder_.path(), 2, 2500)) {
    simt::set_schedule(simt::Schedule::kReverse, 1);
  }

  void train(const std::string& name, bool on_device, const std::string& mask) {
    TrainOptions options{.output_dir = folder_ / name};
    options.make_context = [&] { return on_device ? simt_device(memory_) : cpu_context(); };
    // Adam divides by |gradient| + epsilon: with a large one rounding stays rounding.
    run_training(tiny_audio_config(data_, {"model.mask=" + mask, "audio.chunk_size=1024",
                                           "data.samples_per_epoch=3", "training.num_epochs=2",
                                           "training.grad_clip=0.2", "training.adam_epsilon=0.01",
                                           "model.attn_dropout=0.1"}),
                 options);
  }

  Values curve(const std::string& name, const char* kind, const std::string& key) const {
    Values values;
    for (const auto& line : read_metrics(folder_ / name, kind)) {
      values.push_back(line.at(key).get<double>());
    }
    return values;
  }

  TempDir folder_;
  std::filesystem::path data_;
  SimtDeviceMemory memory_;
};

// Chunks with changed channels, both signs, parts of other songs, a stem and a remainder that are
// not everywhere, speeds, ends of tracks; in a batch that is not full.
TEST_F(AudioParity, BatchesHaveTheBitsOfTheCpus) {
  const auto root = folder_ / "mixed";
  write_tiny_songs(root / "songs", 3, 2500, /*one_lacks=*/true);
  put_audio(root / "songs" / "song-0" / "mixture.wav", tiny_stem(7, 0, 2500),
            {.rate = kTinyRate, .format = SampleFormat::kPcm16});
  for (const auto* stem : {"vocals", "drums"}) {  // stored as integers
    put_audio(root / "songs" / "song-1" / (std::string(stem) + ".wav"), tiny_stem(3, 1, 2000),
              {.rate = kTinyRate, .format = SampleFormat::kPcm16});
  }
  AudioDatasetOptions build{.root = root / "songs",
                            .output_dir = root,
                            .run_label = "data",
                            .config = tiny_audio_config({}).config,
                            .threads = 2};
  AudioAudit audit;
  const AudioDatasetFolder data = open_audio_dataset(build_audio_dataset(build, audit).folder);
  auto tracks = data.train;
  tracks.insert(tracks.end(), data.validation.begin(), data.validation.end());
  AudioSampling sampling{.chunk_frames = 1030, .samples_per_epoch = 40, .augmentations = {}};
  sampling.augmentations.channel_swap = 0.5;
  sampling.augmentations.polarity = 0.5;
  sampling.augmentations.remix = 0.5;
  sampling.augmentations.speed_max = 1.01;
  const AudioConfig audio{.sample_rate = kTinyRate, .n_fft = 512, .hop_length = 128};
  const ChunkSource source(AudioDataset(tracks, sampling), audio);
  const ExecutionContext device = simt_device(memory_);
  const ExecutionContext cpu = cpu_context();
  const std::vector<double> weights(kStemCount, 1.0);
  AudioStage on_device(device, weights, audio);
  AudioStage on_cpu(cpu, weights, audio);
  // The same chunks without one of the changes: it is seen where they differ.
  AudioSampling own_songs = sampling;
  own_songs.augmentations.remix = 0;
  AudioSampling one_speed = sampling;
  one_speed.augmentations.speed_max = 1;
  const std::array others = {AudioDataset(tracks, own_songs), AudioDataset(tracks, one_speed)};
  std::array<int, 7> seen{};
  for (int64_t first = 0; first < 40; first += 3) {
    const auto batch = source.make_batch(4, device.staging());
    const std::vector<int64_t> samples = {first, (first + 1) % 40, (first + 2) % 40};
    source.fill(2, samples, *batch);
    const AudioBatch& chunks = dynamic_cast<const ChunkBatch&>(*batch).audio;
    const MixedChunks there = mixed(device, chunks);
    const MixedChunks here = mixed(cpu, chunks);
    const auto same = [](const ConstTensorView& a, const ConstTensorView& b) {
      return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
    };
    EXPECT_TRUE(same(there.stems.view(), here.stems.view()));
    EXPECT_TRUE(same(there.mixture.view(), here.mixture.view()));
    for (std::size_t i = 0; i < others.size(); ++i) {
      AudioBatch other = others[i].make_batch(4);
      others[i].gather(samples, 2, other);
      seen[5 + i] += same(mixed(cpu, other).stems.view(), here.stems.view()) ? 0 : 1;
    }
    const StagedBatch staged_there = on_device.put(*batch);
    const HostView signals(device, staged_there.signals);
    const StagedBatch staged_here = on_cpu.put(*batch);
    EXPECT_TRUE(same(signals.view(), staged_here.signals));
    EXPECT_TRUE(same(staged_here.signals, here.stems.view().slice(0, 0, 3)));
    on_device.release();
    on_cpu.release();
    const auto* parts = reinterpret_cast<const ChunkPart*>(chunks.parts.as<uint8_t>());
    for (int64_t p = 0; p < 4 * kAudioParts; ++p) {
      seen[0] += parts[p].swap != 0 ? 1 : 0;
      seen[1] += parts[p].factor < 0 ? 1 : 0;
      seen[2] += parts[p].type == PcmType::kI16 ? 1 : 0;
      seen[3] += parts[p].type == PcmType::kF32 ? 1 : 0;
      seen[4] += p % kAudioParts == kStemCount && parts[p].type != PcmType::kNone ? 1 : 0;
    }
  }
  for (const int count : seen) {
    EXPECT_GT(count, 0);
  }
}

TEST_F(AudioParity, SongsTooLongForTheDeviceAreToldWhereTheyCanBeScored) {
  SimtDeviceMemory small(1 << 20);
  const ExecutionContext device = simt_device(small);
  const Tensor signals = Tensor::zeros({2, 2, 40000}, DType::kF32);
  try {
    evaluate_bss(device, signals.view(), signals.view(), 4000, 4000);
    FAIL() << "all of it fitted";
  } catch (const OutOfMemoryError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("signals to score"));
    EXPECT_THAT(error.what(), testing::HasSubstr("--device cpu"));
  }
}

TEST_F(AudioParity, ARunFollowsTheCpusLossesAndSdr) {
  for (const std::string mask : {"real", "complex"}) {
    train("device-" + mask, true, mask);
    train("cpu-" + mask, false, mask);
    for (const auto& [kind, key] : {std::pair<const char*, std::string>{"step", "loss"},
                                    {"validation", "val_loss"},
                                    {"validation", "val_sdr"}}) {
      const Values best = curve("cpu-" + mask, kind, key);
      EXPECT_EQ(best.size(), std::string(kind) == "step" ? 4U : 2U);
      expect_close(mask + " " + key, curve("device-" + mask, kind, key), best);
    }
  }
}

TEST_F(AudioParity, StemsAgree) {
  train("run", false, "complex");
  const std::vector<float> signal = planar(tiny_stem(0, 0, 2500));
  const auto stems = [&](const ExecutionContext& ctx) {
    SeparationModel model = open_separation_model(ctx, folder_ / "run" / "final_model.safetensors");
    Values values;
    int64_t read = 0;
    separate_signal(
        model, {.residual = true}, 2500,
        [&](int64_t frames, float* to, int64_t stride) {
          for (int64_t c = 0; c < 2; ++c) {
            std::copy_n(signal.data() + c * 2500 + read, frames, to + c * stride);
          }
          read += frames;
        },
        [&](const ConstTensorView& part) {
          for (int64_t i = 0; i < part.dim(2); ++i) {
            values.push_back(static_cast<double>(part.as<float>()[i]));  // vocals, left
          }
        });
    return values;
  };
  const Values device = stems(simt_device(memory_));
  const Values best = stems(cpu_context());
  Values lowest;
  at_lowest_simd_level([&] { lowest = stems(cpu_context()); });
  EXPECT_EQ(device.size(), 2500U);
  expect_parity("stems", device, best, lowest);
}

}  // namespace
}  // namespace stemfabric::test
