// A small audio data set whose stems a small model can tell apart: each has a register of its own.
#pragma once

#include <cmath>
#include <numbers>

#include "tests/trainer/audio_data/audio_files.h"
#include "trainer/audio_data/audio_builder.h"
#include "trainer/config/config_io.h"
#include "trainer/stems.h"

namespace stemfabric::test {

inline constexpr int kTinyRate = 8000;

// A tone that swells and fades, panned; interleaved stereo.
inline std::vector<float> tone(int64_t frames, double hz, double swell_hz, double pan,
                               double level = 0.1) {
  std::vector<float> samples(static_cast<std::size_t>(2 * frames));
  for (int64_t n = 0; n < frames; ++n) {
    const double t = static_cast<double>(n) / kTinyRate;
    const double x = level * (0.6 + 0.4 * std::sin(2 * std::numbers::pi * swell_hz * t)) *
                     std::sin(2 * std::numbers::pi * hz * t);
    samples[static_cast<std::size_t>(2 * n)] = static_cast<float>(x * (1 - pan));
    samples[static_cast<std::size_t>(2 * n + 1)] = static_cast<float>(x * (1 + pan));
  }
  return samples;
}

// Interleaved stereo of stem `s` of song `song`.
inline std::vector<float> tiny_stem(int song, int s, int64_t frames) {
  constexpr std::array<double, kStemCount> kHz = {900, 3000, 300, 1500, 2200, 100};
  const auto stem = static_cast<std::size_t>(s);
  return tone(frames, kHz[stem] * (1 + 0.02 * song), 0.5 + 0.3 * s + 0.1 * song,
              0.4 * std::sin(1.0 + s + song));
}

// <root>/song-<i>/{mixture,vocals,…}.wav of `songs` songs; the last one lacks perc if `one_lacks`.
inline void write_tiny_songs(const std::filesystem::path& root, int songs, int64_t frames,
                             bool one_lacks = false) {
  for (int i = 0; i < songs; ++i) {
    const std::filesystem::path folder = root / ("song-" + std::to_string(i));
    std::vector<std::vector<float>> stems;
    for (int s = 0; s < kStemCount; ++s) {
      if (one_lacks && i + 1 == songs && kStemNames[static_cast<std::size_t>(s)] == "perc") {
        continue;
      }
      stems.push_back(tiny_stem(i, s, frames));
      put_audio(folder / (std::string(kStemNames[static_cast<std::size_t>(s)]) + ".wav"),
                stems.back(), {.rate = kTinyRate, .format = SampleFormat::kFloat32});
    }
    put_audio(folder / "mixture.wav", sum(stems),
              {.rate = kTinyRate, .format = SampleFormat::kFloat32});
  }
}

// The configuration of a small model of masks on it.
inline LoadedConfig tiny_audio_config(const std::filesystem::path& data,
                                      const std::vector<std::string>& settings = {}) {
  std::vector<ConfigOverride> overrides;
  const std::vector<std::string> base = {"data.dataset_dir=" + data.string(),
                                         "audio.sample_rate=" + std::to_string(kTinyRate),
                                         "audio.chunk_size=4096",
                                         "audio.n_fft=512",
                                         "audio.hop_length=128",
                                         "model.mask=real",
                                         "model.mask_bands=32",
                                         "model.mask_channels=1",
                                         "model.dim=16",
                                         "model.depth=1",
                                         "model.heads=2",
                                         "model.dim_ff=32",
                                         "model.norm_placement=pre",
                                         "model.positions=rotary",
                                         "training.batch_size=2",
                                         "training.num_epochs=1",
                                         "training.threads=2",
                                         "training.device=cpu",
                                         "logging.tensorboard=false"};
  for (const std::string& text : base) {
    overrides.push_back(parse_override(text));
  }
  for (const std::string& text : settings) {
    overrides.push_back(parse_override(text));
  }
  return load_config({}, overrides);
}

// Makes <folder>/data of tiny songs; returns its path.
inline std::filesystem::path write_tiny_audio_dataset(const std::filesystem::path& folder,
                                                      int songs, int64_t frames,
                                                      bool one_lacks = false) {
  write_tiny_songs(folder / "songs", songs, frames, one_lacks);
  AudioDatasetOptions options{.root = folder / "songs",
                              .output_dir = folder,
                              .run_label = "data",
                              .config = tiny_audio_config({}).config,
                              .threads = 2};
  options.config.data.train_ratio = 0.7;
  AudioAudit audit;
  return build_audio_dataset(options, audit).folder;
}

}  // namespace stemfabric::test
