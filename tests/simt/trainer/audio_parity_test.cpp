// Training on audio and separation on the device and on the CPU, as training_parity_test.cpp: the
// device's memory is none that the host can touch.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/core/log.h"
#include "tests/simt/trainer/devices.h"
#include "tests/support/simd_levels.h"
#include "tests/support/tiny_training.h"
#include "tests/trainer/audio_data/tiny_audio.h"
#include "trainer/separation/separate_signal.h"
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
