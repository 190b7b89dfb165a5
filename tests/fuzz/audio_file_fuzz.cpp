#include "runtime/io/audio_file.h"

#include <sndfile.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/fuzz/fuzz_target.h"

namespace stemfabric::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostFrames = 4096;  // of a file that promises any number of them

// Any part of what could be read from the start is the same when it is asked for by itself.
void read(std::string_view bytes) {
  const fs::path path = hostile_file(".audio", bytes);
  AudioReader reader(path);
  const AudioInfo info = reader.info();
  SF_CHECK(info.channels >= 1 && info.channels <= kMaxAudioChannels && info.frames >= 0);
  const int64_t frames = std::min(info.frames, kMostFrames);
  const auto channels = static_cast<std::size_t>(info.channels);
  std::vector<float> whole(static_cast<std::size_t>(frames) * channels);
  SF_CHECK(reader.read(0, kMostFrames, whole.data()) == frames);
  for (const int64_t first : {frames / 2, frames / 3, int64_t{0}}) {
    const int64_t count = std::min<int64_t>(100, frames - first);
    std::vector<float> part(static_cast<std::size_t>(count) * channels);
    SF_CHECK(reader.read(first, count, part.data()) == count);
    SF_CHECK(part.empty() ||
                 std::memcmp(part.data(), whole.data() + static_cast<std::size_t>(first) * channels,
                             part.size() * sizeof(float)) == 0,
             "frames {} + {} of {} ({})", first, count, frames, info.format);
  }
}

std::vector<float> tone(int channels) {
  std::vector<float> samples(static_cast<std::size_t>(300 * channels));
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i] = static_cast<float>(0.5 * std::sin(0.1 * static_cast<double>(i)));
  }
  return samples;
}

// A container or coding that AudioWriter does not write.
std::string made_by_library(int format) {
  return written(".audio", [&](const fs::path& path) {
    SF_INFO info{};
    info.format = format;
    info.channels = 2;
    info.samplerate = 44100;
    SNDFILE* file = ::sf_open(path.c_str(), SFM_WRITE, &info);
    SF_CHECK(file != nullptr, "{}", ::sf_strerror(nullptr));
    ::sf_writef_float(file, tone(2).data(), 300);
    ::sf_close(file);
  });
}

std::string made_by_writer(const char* extension, SampleFormat format, int channels) {
  return written(extension, [&](const fs::path& path) {
    AudioWriter writer(path, 44100, channels, format);
    writer.write(tone(channels).data(), 300);
    writer.finish();
  });
}

std::vector<std::string> seeds() {
  return {made_by_writer(".wav", SampleFormat::kPcm16, 2),
          made_by_writer(".wav", SampleFormat::kPcm24, 1),
          made_by_writer(".wav", SampleFormat::kFloat32, 2),
          made_by_writer(".flac", SampleFormat::kPcm16, 2),
          made_by_writer(".flac", SampleFormat::kPcm24, 1),
          made_by_library(SF_FORMAT_WAV | SF_FORMAT_PCM_U8),
          made_by_library(SF_FORMAT_WAVEX | SF_FORMAT_DOUBLE),
          made_by_library(SF_FORMAT_RF64 | SF_FORMAT_PCM_16),
          made_by_library(SF_FORMAT_W64 | SF_FORMAT_PCM_32),
          made_by_library(SF_FORMAT_AIFF | SF_FORMAT_PCM_16),
          made_by_library(SF_FORMAT_AIFF | SF_FORMAT_FLOAT)};
}

}  // namespace

const FuzzTarget kAudioFile = {"audio_file", ErrorKind::kInputData, read, seeds};

}  // namespace stemfabric::fuzz
