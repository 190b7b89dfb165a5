// Songs to a data set, a model, its evaluation and a separated song, as a user does it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/io/file.h"
#include "tests/integration/stemfabric.h"
#include "tests/trainer/audio_data/tiny_audio.h"

namespace stemfabric::test {
namespace {

using testing::HasSubstr;

// The settings of a run as options.
std::vector<std::string> set(const std::vector<std::string>& settings) {
  std::vector<std::string> args;
  for (const std::string& text : settings) {
    args.insert(args.end(), {"--set", text});
  }
  return args;
}

std::vector<std::string> with(std::vector<std::string> args, const std::vector<std::string>& more) {
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

TEST(AudioPipeline, FromSongsToStems) {
  const TempDir dir;
  write_tiny_songs(dir / "songs", 3, 16000);
  const auto run = [&](const std::vector<std::string>& args) {
    const ProcessResult result = run_stemfabric(args, dir.path());
    EXPECT_EQ(result.status, 0) << args.front() << ": " << result.err;
    return result;
  };
  run(with({"dataset", "--audio", "songs", "--output-dir", "data", "--run-label", "tiny"},
           set({"audio.sample_rate=8000", "data.train_ratio=0.6"})));
  const ProcessResult trained =
      run(with({"train", "--dataset-dir", "data/tiny", "--output-dir", "run"},
               set({"audio.chunk_size=4096", "audio.n_fft=512", "audio.hop_length=128",
                    "model.mask=complex", "model.mask_bands=32", "model.dim=16", "model.depth=1",
                    "model.heads=2", "model.dim_ff=32", "training.batch_size=2",
                    "training.num_epochs=2", "training.device=cpu", "training.threads=2"})));
  EXPECT_THAT(trained.err, HasSubstr("1.0 s of audio"));
  EXPECT_THAT(trained.err, HasSubstr("SDR of chunks"));
  const ProcessResult evaluated = run({"evaluate", "--dataset-dir", "data/tiny", "--model", "run",
                                       "--output-dir", "evaluation", "--device", "cpu"});
  EXPECT_THAT(evaluated.out, HasSubstr("IRM        SDR dB: vocals "));
  const auto report =
      nlohmann::json::parse(read_text_file(dir / "evaluation" / "evaluation_report.json"));
  EXPECT_TRUE(report.at("aggregateMetrics").at("sdr").is_number());
  EXPECT_EQ(report.at("config").at("model").at("mask"), "complex");

  // From the weights alone.
  std::filesystem::copy_file(dir / "run" / "final_model.safetensors", dir / "w.safetensors");
  const ProcessResult separated =
      run({"separate", "--model", "w.safetensors", "songs/song-0/mixture.wav", "--output-dir",
           "stems", "--residual", "--samples", "float32", "--device", "cpu"});
  std::vector<float> sum(32000);
  for (const std::string_view stem : kStemNames) {
    const std::string file = "stems/" + std::string(stem) + ".wav";
    EXPECT_THAT(separated.out, HasSubstr(file));
    AudioReader reader(dir / file);
    ASSERT_EQ(reader.info().frames, 16000);
    std::vector<float> samples(32000);
    reader.read(0, 16000, samples.data());
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += samples[i];
    }
  }
  std::vector<float> mixture(32000);
  AudioReader(dir / "songs" / "song-0" / "mixture.wav").read(0, 16000, mixture.data());
  for (std::size_t i = 0; i < sum.size(); ++i) {
    ASSERT_NEAR(sum[i], mixture[i], 1e-5);
  }
}

TEST(SeparateCommand, WrongUseIsExplained) {
  const TempDir dir;
  const auto error = [&](const std::vector<std::string>& args, int status) {
    const ProcessResult result = run_stemfabric(args, dir.path());
    EXPECT_EQ(result.status, status) << result.err;
    return result.err;
  };
  put_audio(dir / "song.wav", noise(1000, 1));
  EXPECT_THAT(error({"separate", "--model", "none", "song.wav", "--output-dir", "out"}, 3),
              HasSubstr("there is no model none"));
  EXPECT_THAT(error({"separate", "--model", "none", "song.wav", "--output-dir", "out", "--format",
                     "flac", "--samples", "float32"},
                    2),
              HasSubstr("FLAC holds integers"));
  EXPECT_THAT(error({"separate", "--model", "none", "--output-dir", "out"}, 2), HasSubstr("song"));
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
}

}  // namespace
}  // namespace stemfabric::test
