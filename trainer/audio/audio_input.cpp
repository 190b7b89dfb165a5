#include "trainer/audio/audio_input.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/core/check.h"
#include "trainer/audio/resample.h"

namespace stemfabric {
namespace {

constexpr int64_t kBlockFrames = 16384;  // of the file, read at a time

std::size_t index(int64_t value) { return static_cast<std::size_t>(value); }

void check_layout(const std::filesystem::path& path, const AudioInfo& info, AudioLayout layout) {
  SF_CHECK(layout.channels == 1 || layout.channels == 2, "{} channels wanted", layout.channels);
  if (info.channels > 2) {
    throw InputError("{}: has {} channels; mix it down to stereo or mono first", path.string(),
                     info.channels);
  }
}

void check_samples(const std::filesystem::path& path, const AudioInfo& info, int64_t first_frame,
                   const std::vector<float>& interleaved, int64_t frames) {
  for (int64_t i = 0; i < frames * info.channels; ++i) {
    const float x = interleaved[index(i)];
    if (!(std::abs(x) <= kMaxSample)) [[unlikely]] {  // NaN compares false
      const int64_t frame = first_frame + i / info.channels;
      throw InputError("{}: the sample at {:.4f} s (frame {}, channel {}) is {}; export it again",
                       path.string(), static_cast<double>(frame) / info.sample_rate, frame,
                       i % info.channels,
                       std::isfinite(x) ? fmt::format("{:g}, not in units of full scale", x)
                                        : "not a finite number");
    }
  }
}

}  // namespace

struct AudioInput::State {
  State(const std::filesystem::path& path, AudioLayout wanted)
      : reader(path),
        layout(wanted),
        resampler(reader.info().channels, reader.info().sample_rate, wanted.sample_rate) {}

  AudioReader reader;
  AudioLayout layout;
  Resampler resampler;
  int64_t frames = 0;     // N
  int64_t read_from = 0;  // the file's frame that comes next
  std::vector<float> block;
  std::vector<float> ready;  // at the wanted rate, interleaved as in the file
  int64_t ready_begin = 0;   // its first frame that was not given out yet

  int64_t ready_frames() const {
    return static_cast<int64_t>(ready.size()) / reader.info().channels - ready_begin;
  }

  // One more block of the file, or the end of the resampler.
  void fill() {
    const AudioInfo& info = reader.info();
    ready.erase(ready.begin(), ready.begin() + ready_begin * info.channels);
    ready_begin = 0;
    block.resize(index(kBlockFrames * info.channels));
    const int64_t got = reader.read(read_from, kBlockFrames, block.data());
    check_samples(reader.path(), info, read_from, block, got);
    resampler.process(block.data(), got, ready);
    read_from += got;
    if (read_from == info.frames) {
      resampler.finish(ready);
    }
  }

  void give(int64_t count, float* planar, int64_t stride) {
    const int channels = reader.info().channels;
    const float* from = ready.data() + ready_begin * channels;
    for (int c = 0; c < layout.channels; ++c) {
      float* to = planar + c * stride;
      if (channels == 2 && layout.channels == 1) {
        for (int64_t i = 0; i < count; ++i) {
          to[i] = 0.5f * (from[2 * i] + from[2 * i + 1]);
        }
      } else {
        const int source = std::min(c, channels - 1);
        for (int64_t i = 0; i < count; ++i) {
          to[i] = from[i * channels + source];
        }
      }
    }
    ready_begin += count;
  }
};

AudioInput::AudioInput(const std::filesystem::path& path, AudioLayout layout)
    : state_(std::make_unique<State>(path, layout)) {
  const AudioInfo& info = source();
  check_layout(path, info, layout);
  if (info.frames > int64_t{1} << 40) {
    throw InputError("{}: claims to hold {} frames; export it again", path.string(), info.frames);
  }
  state_->frames = resampled_frames(info.frames, info.sample_rate, layout.sample_rate);
}

AudioInput::~AudioInput() = default;
AudioInput::AudioInput(AudioInput&& other) noexcept = default;
AudioInput& AudioInput::operator=(AudioInput&& other) noexcept = default;

int64_t AudioInput::frames() const { return state_->frames; }
const AudioInfo& AudioInput::source() const { return state_->reader.info(); }

bool AudioInput::exact_16_bit() const {
  const AudioInfo& info = source();
  return info.exact_16_bit && info.sample_rate == state_->layout.sample_rate &&
         info.channels <= state_->layout.channels;
}

int64_t AudioInput::read(int64_t frames, float* planar, int64_t channel_stride) {
  State& s = *state_;
  int64_t done = 0;
  while (done < frames) {
    if (s.ready_frames() == 0) {
      if (s.read_from == source().frames) {
        break;
      }
      s.fill();
      continue;
    }
    const int64_t now = std::min(frames - done, s.ready_frames());
    s.give(now, planar + done, channel_stride);
    done += now;
  }
  return done;
}

Tensor read_audio(const std::filesystem::path& path, AudioLayout layout) {
  AudioInput input(path, layout);
  const int64_t frames = input.frames();
  if (frames > kMaxWholeSeconds * layout.sample_rate) {
    throw InputError("{}: is {:.1f} h long; at most {} h are read at once; cut it into parts",
                     path.string(), static_cast<double>(frames) / layout.sample_rate / 3600,
                     kMaxWholeSeconds / 3600);
  }
  Tensor audio(Shape{layout.channels, frames}, DType::kF32);
  const int64_t got = input.read(frames, audio.as<float>(), frames);
  SF_CHECK(got == frames, "{}: {} of {} frames", path.string(), got, frames);
  return audio;
}

}  // namespace stemfabric
