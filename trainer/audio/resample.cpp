#include "trainer/audio/resample.h"

#include <soxr.h>

#include <algorithm>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

struct DeleteSoxr {
  void operator()(soxr_t resampler) const { ::soxr_delete(resampler); }
};

std::size_t index(int64_t value) { return static_cast<std::size_t>(value); }

}  // namespace

int64_t resampled_frames(int64_t frames, int input_rate, int output_rate) {
  SF_CHECK(frames >= 0 && frames <= int64_t{1} << 40 && input_rate > 0 && output_rate > 0,
           "{} frames, {} to {} Hz", frames, input_rate, output_rate);
  return (2 * frames * output_rate + input_rate) / (2 * int64_t{input_rate});
}

struct Resampler::State {
  int channels;
  int input_rate;
  int output_rate;
  std::unique_ptr<::soxr, DeleteSoxr> library;  // null: equal rates
  int64_t taken = 0;                            // frames in
  int64_t given = 0;                            // frames out

  // One call of the library; null input is the end. Moves `input` and `frames` past what it took
  // and appends what comes out; true if that filled the room, so that there may be more.
  bool step(const float*& input, int64_t& frames, int64_t room, std::vector<float>& output) {
    const std::size_t before = output.size();
    output.resize(before + index(room * channels));
    std::size_t used = 0;
    std::size_t made = 0;
    const char* error = ::soxr_process(library.get(), input, index(frames), &used,
                                       output.data() + before, index(room), &made);
    SF_CHECK(error == nullptr, "libsoxr: {}", error);
    output.resize(before + made * index(channels));
    given += static_cast<int64_t>(made);
    if (input != nullptr) {
      input += used * index(channels);
      frames -= static_cast<int64_t>(used);
    }
    return static_cast<int64_t>(made) == room;
  }
};

Resampler::Resampler(int channels, int input_rate, int output_rate)
    : state_(std::make_unique<State>()) {
  SF_CHECK(channels > 0 && input_rate > 0 && output_rate > 0, "{} channels, {} to {} Hz", channels,
           input_rate, output_rate);
  state_->channels = channels;
  state_->input_rate = input_rate;
  state_->output_rate = output_rate;
  if (input_rate == output_rate) {
    return;
  }
  const soxr_io_spec_t io = ::soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
  const soxr_quality_spec_t quality = ::soxr_quality_spec(SOXR_HQ, 0);
  const soxr_runtime_spec_t runtime = ::soxr_runtime_spec(1);
  const char* error = nullptr;
  state_->library.reset(::soxr_create(input_rate, output_rate, static_cast<unsigned>(channels),
                                      &error, &io, &quality, &runtime));
  SF_CHECK(error == nullptr && state_->library, "libsoxr, {} to {} Hz: {}", input_rate, output_rate,
           error == nullptr ? "out of memory" : error);
}

Resampler::~Resampler() = default;
Resampler::Resampler(Resampler&& other) noexcept = default;
Resampler& Resampler::operator=(Resampler&& other) noexcept = default;

void Resampler::process(const float* interleaved, int64_t frames, std::vector<float>& output) {
  State& s = *state_;
  s.taken += frames;
  if (!s.library) {
    output.insert(output.end(), interleaved, interleaved + frames * s.channels);
    return;
  }
  // Blocks of bounded size, as the library copies what it is given.
  constexpr int64_t kBlock = 16384;
  const int64_t room = resampled_frames(kBlock, s.input_rate, s.output_rate) + 1024;
  while (frames > 0) {
    int64_t now = std::min(kBlock, frames);
    frames -= now;
    bool more = true;  // until all is taken and nothing more comes out
    while (now > 0 || more) {
      more = s.step(interleaved, now, room, output);
    }
  }
}

void Resampler::finish(std::vector<float>& output) {
  State& s = *state_;
  if (!s.library) {
    return;
  }
  const float* end = nullptr;
  int64_t none = 0;
  while (s.step(end, none, 16384, output)) {
  }
  // The rule of the length, should the library's rounding differ by a frame.
  const int64_t expected = resampled_frames(s.taken, s.input_rate, s.output_rate);
  SF_CHECK(s.given - expected <= 1 && expected - s.given <= 1, "libsoxr made {} frames of {}",
           s.given, expected);
  output.resize(index(static_cast<int64_t>(output.size()) + (expected - s.given) * s.channels));
}

std::vector<float> resample(const std::vector<float>& interleaved, int channels, int input_rate,
                            int output_rate) {
  const auto frames = static_cast<int64_t>(interleaved.size()) / channels;
  std::vector<float> output;
  output.reserve(index((resampled_frames(frames, input_rate, output_rate) + 16384) * channels));
  Resampler resampler(channels, input_rate, output_rate);
  resampler.process(interleaved.data(), frames, output);
  resampler.finish(output);
  return output;
}

}  // namespace stemfabric
