// web/stemfabric_audio.mjs, run in Node, against the oracles of the ops and the trainer's own
// separation. The module computes in float64 and rounds its results to float32, and is held to the
// bounds of the float32 ops.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "kernels/stem_mask/mask_bands.h"
#include "kernels/stft_features/stft_features.h"
#include "runtime/io/file.h"
#include "tests/oracles/stem_mask_oracle.h"
#include "tests/oracles/stft_cases.h"
#include "tests/oracles/stft_features_cases.h"
#include "tests/oracles/stft_features_oracle.h"
#include "tests/support/feature_bounds.h"
#include "tests/support/op_harness.h"
#include "tests/support/process.h"
#include "tests/trainer/separation/mask_weights.h"
#include "trainer/audio_data/level.h"
#include "trainer/separation/chunk_plan.h"
#include "trainer/separation/separate_signal.h"

namespace stemfabric::test {
namespace {

using Json = nlohmann::json;
using Values = std::vector<double>;

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

std::string source(const std::string& name) { return std::string(SF_SOURCE_DIR) + "/" + name; }

class WebAudio : public testing::Test {
 protected:
  void SetUp() override {
    const ProcessResult node =
        run_process({"/usr/bin/env", "node", "-e",
                     "process.exit(parseInt(process.versions.node) < 18 ? 18 : 0)"});
    if (node.status != 0) {
      GTEST_SKIP() << "node 18 or later is not installed: the JavaScript module is not tested";
    }
  }

  // The number of the job's output.
  std::size_t add(const std::string& operation, Json job, const std::vector<Values>& inputs) {
    const std::size_t number = jobs_.size();
    job["operation"] = operation;
    job["inputs"] = Json::array();
    job["output"] = std::to_string(number) + ".out";
    for (const Values& values : inputs) {
      const std::vector<float> floats(values.begin(), values.end());
      const std::string name =
          std::to_string(number) + "." + std::to_string(job["inputs"].size()) + ".in";
      put_file(folder_ / name, {reinterpret_cast<const char*>(floats.data()),  // NOLINT
                                floats.size() * sizeof(float)});
      job["inputs"].push_back(name);
    }
    jobs_.push_back(job);
    return number;
  }
  void run() {
    put_file(folder_ / "jobs.json", jobs_.dump());
    const ProcessResult node = run_process(
        {"/usr/bin/env", "node", source("tests/web/run_module.mjs"), folder_.path().string()});
    ASSERT_EQ(node.status, 0) << node.err;
  }
  Values output(std::size_t number) const {
    const std::string bytes = read_text_file(folder_ / (std::to_string(number) + ".out"));
    std::vector<float> floats(bytes.size() / sizeof(float));
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(floats.data()));  // NOLINT
    return widen(floats);
  }

  TempDir folder_;
  Json jobs_ = Json::array();
};

Json transform(int64_t n_fft, int64_t hop_length, int64_t sample_rate = 44100) {
  return {{"nFft", n_fft}, {"hopLength", hop_length}, {"sampleRate", sample_rate}};
}

// Music, and what becomes of it where a channel is silent or both are alike.
struct Song {
  FeaturesCase shape;
  Values signal;
};
std::vector<Song> songs() {
  std::vector<Song> result;
  for (FeaturesCase c : features_test_cases()) {
    c.b = 1;
    result.push_back({c, music_like(c, GuardedTensor::random({1, 2, c.samples}, 1).values())});
  }
  const FeaturesCase odd = {"", 1, 4097, 1024, 256};
  const Values music = music_like(odd, GuardedTensor::random({1, 2, odd.samples}, 2).values());
  const auto variant = [&](const std::string& name, double left, double right, bool mono) {
    Song song = {odd, music};
    song.shape.name = name;
    for (int64_t i = 0; i < odd.samples; ++i) {
      const double other = mono ? music[at(i)] : music[at(odd.samples + i)];
      song.signal[at(i)] = left * music[at(i)];
      song.signal[at(odd.samples + i)] = right * other;
    }
    result.push_back(song);
  };
  variant("left_is_silent", 0, 1, false);
  variant("right_is_silent", 1, 0, false);
  variant("mono_as_stereo", 1, 1, true);
  variant("opposite_phase", 1, -1, true);
  variant("silence", 0, 0, false);
  for (Song& song : result) {  // what the module and the oracles both get
    for (double& x : song.signal) {
      x = static_cast<float>(x);
    }
  }
  return result;
}

StftInput input_of(const Song& song) {
  return {.channels = 2,
          .samples = song.shape.samples,
          .n_fft = song.shape.n_fft,
          .hop_length = song.shape.hop_length,
          .signal = song.signal,
          .spectra = {}};
}

// Where channels are alike or silent, what the oracle finds to be 0, transforming each by itself,
// is the rounding of float64 in the module's transform of both: 12 steps of 2^-53 of an amplitude
// below 1; the flux divides amplitudes by no less than √ε.
constexpr Floor kFeatureFloor = {.absolute = 12 * 0x1p-53 / kAmplitudeFloor};

TEST_F(WebAudio, FeaturesFollowTheFormulas) {
  const std::vector<Song> all = songs();
  for (const Song& song : all) {
    const FeaturesCase& c = song.shape;
    add("stftFeatures", {{"settings", transform(c.n_fft, c.hop_length, c.sample_rate)}},
        {song.signal});
  }
  ASSERT_NO_FATAL_FAILURE(run());
  for (std::size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(all[i].shape.name);
    const auto rate = static_cast<double>(all[i].shape.sample_rate);
    expect_features(output(i), stft_features_oracle<float>(input_of(all[i]), rate),
                    stft_features_oracle<double>(input_of(all[i]), rate), kFeatureFloor);
  }
}

TEST_F(WebAudio, SpectraFollowTheFormula) {
  const std::vector<Song> all = songs();
  for (const Song& song : all) {
    add("stft", {{"settings", transform(song.shape.n_fft, song.shape.hop_length)}}, {song.signal});
  }
  ASSERT_NO_FATAL_FAILURE(run());
  for (std::size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(all[i].shape.name);
    expect_within_bound("spectra", output(i),
                        stft_oracle<float>(input_of(all[i]), Transform::kRecursion),
                        stft_oracle<double>(input_of(all[i]), Transform::kRecursion));
  }
}

TEST_F(WebAudio, InverseFollowsTheFormula) {
  const std::vector<StftCase> cases = {{"n512", 1, 2, 1337, 512, 128},
                                       {"n512_shortest", 1, 2, 257, 512, 128},
                                       {"n512_hop32", 1, 2, 700, 512, 32},
                                       {"n1024", 1, 2, 2500, 1024, 256},
                                       {"n2048_whole_hops", 1, 2, 4096, 2048, 512},
                                       {"n4096", 1, 2, 9001, 4096, 1024}};
  std::vector<StftInput> inputs;
  for (const StftCase& c : cases) {
    inputs.push_back(
        {.channels = 2,
         .samples = c.samples,
         .n_fft = c.n_fft,
         .hop_length = c.hop_length,
         .signal = {},
         .spectra = GuardedTensor::random({1, 2, c.frames(), c.bins(), 2}, 1).values()});
    add("istft", {{"settings", transform(c.n_fft, c.hop_length)}, {"samples", c.samples}},
        {inputs.back().spectra});
  }
  ASSERT_NO_FATAL_FAILURE(run());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].name);
    expect_within_bound("signal", output(i), istft_oracle<float>(inputs[i]),
                        istft_oracle<double>(inputs[i], Transform::kRecursion));
  }
}

TEST_F(WebAudio, MasksFollowTheFormula) {
  const std::vector<StemMaskCase> cases = {
      {"real_k257", 1, 1, 2, 3, 257, 40, false, true},
      {"real_per_channel_k513", 1, 1, 2, 3, 513, 64, false, false},
      {"complex_k1025", 1, 1, 2, 3, 1025, 128, true, true},
      {"complex_per_channel_k2049", 1, 1, 2, 2, 2049, 256, true, false},
      {"two_bands", 1, 1, 2, 2, 257, 2, true, true},
      {"band_per_bin", 1, 1, 2, 2, 257, 257, true, false},
      {"more_bands_than_bins", 1, 1, 2, 2, 257, 300, false, true}};
  std::vector<StemMaskInput> inputs;
  for (const StemMaskCase& c : cases) {
    inputs.push_back({.shape = c,
                      .prediction = GuardedTensor::random({c.t, c.outputs()}, 1, -9, 9).values(),
                      .mixture = GuardedTensor::random({2, c.t, c.k, 2}, 2, -3, 3).values(),
                      .target = Values(at(c.spectrum_floats()))});
    const Json settings = {{"nFft", 2 * (c.k - 1)},
                           {"mask", c.complex_mask ? "complex" : "real"},
                           {"maskBands", c.bands},
                           {"maskChannels", c.shared ? 1 : 2}};
    add("applyMasks", {{"settings", settings}}, {inputs.back().prediction, inputs.back().mixture});
  }
  ASSERT_NO_FATAL_FAILURE(run());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].name);
    expect_within_bound("estimate", output(i), stem_mask_oracle<float>(inputs[i]).estimate,
                        stem_mask_oracle<double>(inputs[i]).estimate);
  }
}

// Bands are counted in float32 with fractions: 1e-4 of a band at the most.
TEST_F(WebAudio, BinsLieBetweenTheBandsAsInTheKernels) {
  const std::vector<std::pair<int64_t, int64_t>> sizes = {
      {2, 257}, {32, 257}, {64, 513}, {128, 2049}, {512, 2049}, {257, 257}, {300, 257}};
  for (const auto& [bands, bins] : sizes) {
    add("maskBandTable", {{"bands", bands}, {"bins", bins}}, {});
  }
  ASSERT_NO_FATAL_FAILURE(run());
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const MaskBandTable table = mask_band_table(sizes[i].first, sizes[i].second);
    const Values positions = output(i);
    ASSERT_EQ(positions.size(), table.band.size());
    for (std::size_t k = 0; k < positions.size(); ++k) {
      ASSERT_NEAR(positions[k], table.band[k] + static_cast<double>(table.fraction[k]), 1e-4)
          << sizes[i].first << " bands, bin " << k << " of " << sizes[i].second;
    }
  }
}

TEST_F(WebAudio, ChunksAreThoseOfSeparate) {
  struct Sizes {
    int64_t frames, chunk, overlap;
  };
  const std::vector<Sizes> all = {{1, 1, 1},     {5, 129, 2},   {129, 129, 2}, {130, 129, 2},
                                  {400, 129, 1}, {400, 129, 2}, {400, 129, 4}, {33, 7, 3},
                                  {50, 16, 30},  {50, 1, 2},    {300, 95, 2}};
  for (const Sizes& s : all) {
    add("chunkPlan", {{"frames", s.frames}, {"mostFrames", s.chunk}, {"numOverlap", s.overlap}},
        {});
  }
  ASSERT_NO_FATAL_FAILURE(run());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const ChunkPlan plan(all[i].frames, all[i].chunk, all[i].overlap);
    Values want = {static_cast<double>(plan.chunk_frames())};
    for (int64_t k = 0; k < plan.chunks(); ++k) {
      want.push_back(static_cast<double>(plan.first_frame(k)));
      want.push_back(static_cast<double>(plan.complete_after(k)));
      for (int64_t j = 0; j < plan.chunk_frames(); ++j) {
        want.push_back(plan.weight(k, j));
      }
    }
    EXPECT_EQ(output(i), want) << all[i].frames << " frames in chunks of " << all[i].chunk;
  }
}

TEST_F(WebAudio, LevelIsThatOfTheTrainer) {
  // The first half lies 60 dB below the second, and does not count.
  constexpr std::size_t kSamples = 8123;
  Values soft_and_loud = GuardedTensor::random({2, kSamples}, 3, -0.4, 0.4).values();
  for (std::size_t i = 0; i < soft_and_loud.size(); ++i) {
    soft_and_loud[i] *= i % kSamples < 4000 ? 1e-3 : 1;
  }
  const std::vector<Values> signals = {soft_and_loud, Values(at(2 * 500)),
                                       Values(at(2 * 500), 0.3)};
  for (const Values& signal : signals) {
    add("levelGain", {{"sampleRate", 8000}}, {signal});
  }
  ASSERT_NO_FATAL_FAILURE(run());
  for (std::size_t i = 0; i < signals.size(); ++i) {
    const std::vector<float> floats(signals[i].begin(), signals[i].end());
    LevelMeter level(8000);
    const std::size_t half = floats.size() / 2;
    level.add(floats.data(), floats.data() + half, static_cast<int64_t>(half));
    EXPECT_FLOAT_EQ(static_cast<float>(output(i)[0]), static_cast<float>(level.gain()));
  }
}

// A real model, with attention, so that what it makes of a frame depends on the chunk: its outputs
// are recorded here and played to the module, chunk by chunk.
class Recording {
 public:
  Recording(const std::string& mask, int64_t channels, int64_t samples)
      : config_(mask_model(mask, 1, channels)), samples_(samples) {
    const ParameterTable table(config_);
    std::vector<float> block(at(table.block_elements()));
    table.initialize(block.data(), 7);
    write_weights(folder_ / "w.safetensors", config_, table, block.data(), {}, {});
    model_.emplace(open_separation_model(ctx_, folder_ / "w.safetensors"));
    std::vector<std::vector<float>> parts = {noise(samples, 3)};
    for (int s = 0; s < kStemCount; ++s) {
      parts.push_back(tiny_stem(0, s, samples));
    }
    signal_ = planar(sum(parts));
    LevelMeter level(kTinyRate);
    level.add(signal_.data(), signal_.data() + samples, samples);
    gain_ = level.gain();
    plan_.emplace(1 + length() / kHop, model_->chunk_frames, 2);
  }

  int64_t length() const { return std::max(samples_, int64_t{512}); }
  Values signal() const { return widen(signal_); }
  const ChunkPlan& plan() const { return *plan_; }

  // At the level of the training data, and as long as spectra want it.
  StftInput input() const {
    StftInput in = {.channels = 2,
                    .samples = length(),
                    .n_fft = 512,
                    .hop_length = kHop,
                    .signal = Values(at(2 * length())),
                    .spectra = {}};
    for (int64_t i = 0; i < 2 * samples_; ++i) {
      in.signal[at(i / samples_ * length() + i % samples_)] = gain_ * signal_[at(i)];
    }
    return in;
  }

  // [chunks, stems, T · outputs].
  Values outputs() {
    const StftInput in = input();
    GuardedTensor signal({1, 2, length()}, DType::kF32);
    signal.assign(in.signal);
    Tensor features({1, plan_->frames(), kAudioFeatures}, DType::kF32);
    stft_features(ctx_, {.signal = signal.view(),
                         .sample_rate = kTinyRate,
                         .n_fft = 512,
                         .hop_length = kHop,
                         .features = features.view()});
    Values all;
    for (int64_t k = 0; k < plan_->chunks(); ++k) {
      const ConstTensorView chunk(features.as<float>() + plan_->first_frame(k) * kAudioFeatures,
                                  Shape{1, plan_->chunk_frames(), kAudioFeatures});
      const ConstTensorView outputs = model_->trained.model->forward(chunk, {}, false, {});
      all.insert(all.end(), outputs.as<float>(), outputs.as<float>() + outputs.elements());
    }
    return all;
  }

  // What `stemfabric separate` makes of the song, [stems, 2, N].
  Values separated() {
    Values result(at(kStemCount * 2 * samples_));
    int64_t read = 0;
    int64_t written = 0;
    separate_signal(
        *model_, {.gain = gain_}, samples_,
        [&](int64_t frames, float* to, int64_t stride) {
          for (int64_t c = 0; c < 2; ++c) {
            std::copy_n(signal_.data() + c * samples_ + read, frames, to + c * stride);
          }
          read += frames;
        },
        [&](const ConstTensorView& stems) {
          for (int64_t i = 0; i < kStemCount * 2; ++i) {
            const float* from =
                stems.as<float>() + i / 2 * stems.stride(0) + i % 2 * stems.stride(1);
            std::copy_n(from, stems.dim(2), result.begin() + i * samples_ + written);
          }
          written += stems.dim(2);
        });
    return result;
  }

  // The same in float64, of the model's outputs.
  Values oracle(const Values& outputs) const {
    const int64_t channel = plan_->frames() * kBins * 2;
    const Values mixture = stft_oracle<double>(input(), Transform::kRecursion);
    Values sums(at(kStemCount * 2 * channel));
    Values weights(at(plan_->frames()));
    for (int64_t k = 0; k < plan_->chunks(); ++k) {
      add_chunk(k, outputs, mixture, sums, weights);
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i] /= gain_ * weights[i % at(channel) / (2 * kBins)];
    }
    const Values stems = istft_oracle<double>({.channels = kStemCount * 2,
                                               .samples = length(),
                                               .n_fft = 512,
                                               .hop_length = kHop,
                                               .signal = {},
                                               .spectra = sums},
                                              Transform::kRecursion);
    Values result;
    for (int64_t i = 0; i < kStemCount * 2; ++i) {
      const auto from = stems.begin() + i * length();
      result.insert(result.end(), from, from + samples_);
    }
    return result;
  }

  // What the exported model says of itself.
  Json described() const {
    return {{"userDefinedMetadata",
             {{"stemfabric", {{"config", Json::parse(model_config_to_json(config_))}}}}}};
  }

 private:
  static constexpr int64_t kHop = 128;
  static constexpr int64_t kBins = 257;

  void add_chunk(int64_t chunk, const Values& outputs, const Values& mixture, Values& sums,
                 Values& weights) const {
    const StemMaskCase shape = {"",
                                kStemCount,
                                1,
                                2,
                                plan_->chunk_frames(),
                                kBins,
                                config_.mask_bands,
                                config_.mask == "complex",
                                config_.mask_channels == 1};
    const int64_t row = kBins * 2;
    const int64_t first = plan_->first_frame(chunk);
    const int64_t values = shape.s * shape.t * shape.outputs();
    StemMaskInput in = {.shape = shape,
                        .prediction = Values(outputs.begin() + chunk * values,
                                             outputs.begin() + (chunk + 1) * values),
                        .target = Values(at(shape.s * shape.spectrum_floats()))};
    for (int64_t c = 0; c < 2; ++c) {
      const auto from = mixture.begin() + (c * plan_->frames() + first) * row;
      in.mixture.insert(in.mixture.end(), from, from + shape.t * row);
    }
    const Values estimate = stem_mask_oracle<double>(in).estimate;
    for (int64_t t = 0; t < shape.t; ++t) {
      const double weight = plan_->weight(chunk, t);
      weights[at(first + t)] += weight;
      for (int64_t i = 0; i < kStemCount * 2 * row; ++i) {
        const int64_t signal = i / row;
        sums[at((signal * plan_->frames() + first + t) * row + i % row)] +=
            weight * estimate[at((signal * shape.t + t) * row + i % row)];
      }
    }
  }

  TempDir folder_;
  ExecutionContext ctx_{ExecutionContext::Options{.threads = 2}};
  ModelConfig config_;
  int64_t samples_;
  std::optional<SeparationModel> model_;
  std::optional<ChunkPlan> plan_;
  std::vector<float> signal_;  // planar
  double gain_ = 1;
};

// The module's error against float64 is at most twice that of `stemfabric separate`, on one song of
// many chunks, one of a single chunk and one that is shorter than a window.
TEST_F(WebAudio, SeparatesAsTheTrainerDoes) {
  struct Take {
    std::string mask;
    int64_t channels, samples;
  };
  const std::vector<Take> all = {
      {"real", 1, 12001}, {"complex", 2, 12001}, {"real", 2, 3000}, {"complex", 1, 300}};
  std::vector<std::unique_ptr<Recording>> recordings;
  std::vector<Values> outputs;
  for (const Take& song : all) {
    recordings.push_back(std::make_unique<Recording>(song.mask, song.channels, song.samples));
    outputs.push_back(recordings.back()->outputs());
    add("separate",
        {{"model", recordings.back()->described()},
         {"stems", kStemNames},
         {"options", Json::object()}},
        {recordings.back()->signal(), outputs.back()});
  }
  ASSERT_NO_FATAL_FAILURE(run());
  for (std::size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(all[i].mask + ", " + std::to_string(all[i].samples) + " samples");
    Recording& recording = *recordings[i];
    const Values result = output(i);
    const Values naive = recording.separated();
    const auto stems = result.end() - static_cast<int64_t>(naive.size());
    expect_within_bound("stems", Values(stems, result.end()), naive, recording.oracle(outputs[i]));

    const auto chunks = [&](const Values& features) {
      Values cut;
      const ChunkPlan& plan = recording.plan();
      for (int64_t k = 0; k < plan.chunks(); ++k) {
        const auto from = features.begin() + plan.first_frame(k) * kAudioFeatures;
        cut.insert(cut.end(), from, from + plan.chunk_frames() * kAudioFeatures);
      }
      return cut;
    };
    expect_features(Values(result.begin(), stems),
                    chunks(stft_features_oracle<float>(recording.input(), kTinyRate)),
                    chunks(stft_features_oracle<double>(recording.input(), kTinyRate)));
  }
}

TEST_F(WebAudio, KeepsItsPromises) {
  const ProcessResult node =
      run_process({"/usr/bin/env", "node", source("tests/web/module_promises.mjs")});
  EXPECT_EQ(node.status, 0) << node.out << node.err;
}

// In the place of TensorFlow.js, with a model for which all of the song is vocals.
constexpr const char* kOneModel = R"(window.tf = {
  loadGraphModel: async url => {
    if (!(await fetch(url)).ok) throw new Error(url);
    return {predict: ({shape}) => ({vocals: outputs(shape, 40), drums: outputs(shape, -80)})};
  },
  tensor: (values, shape) => {
    if (values.length !== shape[0] * shape[1] * shape[2]) throw new Error(`shape ${shape}`);
    return {shape};
  },
  tidy: make => make(),
  dispose: () => {},
  getBackend: () => 'none'
};
const outputs = (shape, value) => ({data: async () => new Float32Array(shape[1] * 32).fill(value)});
)";

TEST_F(WebAudio, ExamplePagePlaysTheStems) {
  if (run_process({"/usr/bin/env", "chromium", "--version"}).status != 0) {
    GTEST_SKIP() << "chromium is not installed: the example page is not tested";
  }
  const auto site = folder_ / "site";
  std::filesystem::create_directories(site / "model" / "tfjs");
  for (const char* name : {"example.html", "stemfabric_audio.mjs"}) {
    std::filesystem::copy_file(source(std::string("web/") + name), site / name);
  }
  put_file(site / "tf.min.js", kOneModel);
  put_file(site / "model" / "tfjs" / "model.json", Recording("real", 1, 1000).described().dump());
  const std::vector<float> song = noise(20000, 5);
  put_audio(folder_ / "song.wav", song, {.rate = kTinyRate, .format = SampleFormat::kFloat32});
  const ProcessResult page =
      run_process({"/usr/bin/env", "node", source("tests/web/example_in_chromium.mjs"),
                   site.string(), (folder_ / "song.wav").string(), (folder_ / "stems").string()});
  ASSERT_EQ(page.status, 0) << page.out << page.err;
  EXPECT_NE(page.out.find("song.wav: 2.5 s of music in "), std::string::npos) << page.out;
  for (const bool vocals : {true, false}) {
    AudioReader reader(folder_ / "stems" / (vocals ? "vocals.wav" : "drums.wav"));
    ASSERT_EQ(reader.info().sample_rate, kTinyRate);
    ASSERT_EQ(reader.info().channels, 2);
    std::vector<float> stem(song.size() + 2);
    ASSERT_EQ(reader.read(0, 20001, stem.data()), 20000);
    for (std::size_t i = 0; i < song.size(); ++i) {
      ASSERT_NEAR(stem[i], vocals ? song[i] : 0, 1e-6) << "at " << i;
    }
  }
}

}  // namespace
}  // namespace stemfabric::test
