#include "trainer/separation/separate_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/progress.h"
#include "runtime/io/file.h"
#include "trainer/audio/audio_input.h"
#include "trainer/audio/resample.h"
#include "trainer/audio_data/audio_track.h"
#include "trainer/audio_data/level.h"

namespace stemfabric {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kBlockFrames = 1 << 16;

AudioLayout layout_of(const AudioConfig& audio) {
  return {.sample_rate = static_cast<int>(audio.sample_rate), .channels = kAudioChannels};
}

double measured_gain(const std::filesystem::path& path, const AudioConfig& audio) {
  AudioInput input(path, layout_of(audio));
  LevelMeter level(audio.sample_rate);
  std::vector<float> block(static_cast<std::size_t>(kAudioChannels * kBlockFrames));
  for (;;) {
    const int64_t got = input.read(kBlockFrames, block.data(), kBlockFrames);
    if (got == 0) {
      return level.gain();
    }
    level.add(block.data(), block.data() + kBlockFrames, got);
  }
}

// One stem on its way to its file: brought to the source's channels, rate and length.
class StemFile {
 public:
  StemFile(const std::filesystem::path& path, const AudioInfo& source, int64_t sample_rate,
           SampleFormat format)
      : channels_(source.channels),
        left_(source.frames),
        resampler_(source.channels, static_cast<int>(sample_rate), source.sample_rate),
        writer_(path, source.sample_rate, source.channels, format) {}

  void write(const ConstTensorView& signal) {  // [2, n]
    const int64_t n = signal.dim(1);
    const float* left = signal.as<float>();
    const float* right = left + signal.stride(0);
    interleaved_.resize(static_cast<std::size_t>(n * channels_));
    for (int64_t i = 0; i < n; ++i) {
      if (channels_ == 1) {
        interleaved_[static_cast<std::size_t>(i)] = 0.5F * (left[i] + right[i]);
      } else {
        interleaved_[static_cast<std::size_t>(2 * i)] = left[i];
        interleaved_[static_cast<std::size_t>(2 * i + 1)] = right[i];
      }
    }
    output_.clear();
    resampler_.process(interleaved_.data(), n, output_);
    put();
  }

  void end() {
    output_.clear();
    resampler_.finish(output_);
    put();
    output_.assign(static_cast<std::size_t>(left_ * channels_), 0.0F);  // there and back: ±1 frame
    put();
  }
  void close() { writer_.close(); }
  void commit() { writer_.commit(); }
  int64_t clipped() const { return writer_.clipped(); }

 private:
  void put() {
    const int64_t now = std::min(left_, static_cast<int64_t>(output_.size()) / channels_);
    writer_.write(output_.data(), now);
    left_ -= now;
  }

  int channels_;
  int64_t left_;  // frames to come
  Resampler resampler_;
  AudioWriter writer_;
  std::vector<float> interleaved_, output_;
};

// What would only show when all the work is done.
void check_request(const SeparateRequest& request, const AudioInfo& source) {
  const std::string path = request.input.string();
  if (source.frames == 0) {
    throw InputError("{}: holds no audio", path);
  }
  if (!request.flac && source.frames > most_wav_frames(source.channels, request.sample_format)) {
    throw UsageError(
        "{}: its stems would be longer than a WAV file can be (4 GiB); use --format "
        "flac",
        path);
  }
}

fs::path stem_path(const SeparateRequest& request, std::size_t stem) {
  fs::path path =
      request.output_dir / fmt::format("{}.{}", kStemNames[stem], request.flac ? "flac" : "wav");
  std::error_code missing;
  if (fs::equivalent(path, request.input, missing)) {
    throw UsageError("{}: is the song itself, which would be replaced; choose another --output-dir",
                     path.string());
  }
  return path;
}

}  // namespace

SeparateResult separate_file(const ExecutionContext& ctx, const SeparateRequest& request) {
  SeparationModel model = open_separation_model(ctx, find_weights(request.model));
  const AudioInfo source = read_audio_info(request.input);
  check_request(request, source);
  SeparateResult result{.source = source};
  result.gain = measured_gain(request.input, model.audio);
  AudioInput input(request.input, layout_of(model.audio));

  make_directories(request.output_dir);
  std::vector<std::unique_ptr<StemFile>> files;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    result.files[s] = stem_path(request, s);
    files.push_back(std::make_unique<StemFile>(result.files[s], source, model.audio.sample_rate,
                                               request.sample_format));
  }
  SeparationOptions options = request.options;
  options.gain = result.gain;
  const int64_t frames = std::max<int64_t>(1, input.frames());
  Progress progress("separate", "frames", frames);
  separate_signal(
      model, options, frames,
      [&](int64_t n, float* planar, int64_t stride) {
        const int64_t got = input.read(n, planar, stride);
        for (int c = 0; c < kAudioChannels; ++c) {
          std::fill_n(planar + c * stride + got, n - got, 0.0F);
        }
      },
      [&](const ConstTensorView& stems) {
        for (std::size_t s = 0; s < kStemCount; ++s) {
          const ConstTensorView stem = stems.slice(0, static_cast<int64_t>(s), 1);
          files[s]->write({stem.data(), DType::kF32, Shape{kAudioChannels, stem.dim(2)},
                           ConstTensorView::Strides{stem.stride(1), 1}});
        }
        progress.advance(stems.dim(2));
      });
  for (std::size_t s = 0; s < kStemCount; ++s) {
    files[s]->end();
    result.clipped[s] = files[s]->clipped();
  }
  for (const auto& file : files) {
    file->close();
  }
  for (const auto& file : files) {
    file->commit();
  }
  return result;
}

}  // namespace stemfabric
