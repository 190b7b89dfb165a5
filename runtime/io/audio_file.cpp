#include "runtime/io/audio_file.h"

#include <fcntl.h>
#include <sndfile.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file_internal.h"

namespace stemfabric {
namespace fs = std::filesystem;
using namespace io_internal;
namespace {

struct CloseSoundFile {
  void operator()(SNDFILE* file) const { ::sf_close(file); }
};
using SoundFile = std::unique_ptr<SNDFILE, CloseSoundFile>;

// "Error : unknown format." -> "unknown format"
std::string reason_of(SNDFILE* file) {
  std::string text = ::sf_strerror(file);
  for (const std::string_view prefix : {"Error : ", "Error: "}) {
    if (text.starts_with(prefix)) {
      text.erase(0, prefix.size());
    }
  }
  while (!text.empty() && (text.back() == '.' || text.back() == '\n')) {
    text.pop_back();
  }
  return text;
}

// The name that libsndfile's header has for a part of a format; "" if it is none of these.
std::string_view container_name(int format) {
  switch (format & SF_FORMAT_TYPEMASK) {
    case SF_FORMAT_WAV:
    case SF_FORMAT_WAVEX:
      return "WAV";
    case SF_FORMAT_RF64:
      return "RF64";
    case SF_FORMAT_W64:
      return "W64";
    case SF_FORMAT_AIFF:
      return "AIFF";
    case SF_FORMAT_FLAC:
      return "FLAC";
    case SF_FORMAT_OGG:
      return "OGG";
    case SF_FORMAT_MPEG:
      return "MPEG";
    default:
      return "";
  }
}

std::string_view coding_name(int format) {
  switch (format & SF_FORMAT_SUBMASK) {
    case SF_FORMAT_PCM_S8:
      return "PCM_S8";
    case SF_FORMAT_PCM_U8:
      return "PCM_U8";
    case SF_FORMAT_PCM_16:
      return "PCM_16";
    case SF_FORMAT_PCM_24:
      return "PCM_24";
    case SF_FORMAT_PCM_32:
      return "PCM_32";
    case SF_FORMAT_FLOAT:
      return "FLOAT";
    case SF_FORMAT_DOUBLE:
      return "DOUBLE";
    case SF_FORMAT_VORBIS:
      return "VORBIS";
    case SF_FORMAT_OPUS:
      return "OPUS";
    case SF_FORMAT_MPEG_LAYER_I:
      return "LAYER_I";
    case SF_FORMAT_MPEG_LAYER_II:
      return "LAYER_II";
    case SF_FORMAT_MPEG_LAYER_III:
      return "LAYER_III";
    default:
      return "OTHER";
  }
}

bool is_exact_16_bit(int format) {
  const int coding = format & SF_FORMAT_SUBMASK;
  return coding == SF_FORMAT_PCM_16 || coding == SF_FORMAT_PCM_S8 || coding == SF_FORMAT_PCM_U8;
}

Descriptor open_audio(const fs::path& path, uint64_t& size) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      throw InputError("there is no audio file {}; check the path", path.string());
    }
    fail("read", path, errno);
  }
  if (!S_ISREG(info.st_mode)) {
    throw InputError("{}: is {}; give an audio file", path.string(),
                     S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe");
  }
  size = static_cast<uint64_t>(info.st_size);
  return open_for_reading(path);
}

uint32_t little_endian_32(const unsigned char* bytes) {
  return bytes[0] | static_cast<uint32_t>(bytes[1]) << 8 | static_cast<uint32_t>(bytes[2]) << 16 |
         static_cast<uint32_t>(bytes[3]) << 24;
}

uint32_t big_endian_32(const unsigned char* bytes) {
  return __builtin_bswap32(little_endian_32(bytes));
}

bool is_word(const unsigned char* bytes, std::string_view word) {
  return std::memcmp(bytes, word.data(), word.size()) == 0;
}

// libsndfile takes a WAV, RF64 or AIFF that was cut off for a shorter one; here it is refused.
// Formats that are coded show it themselves when they are read.
void refuse_cut_pcm(int fd, uint64_t size, const fs::path& path) {
  constexpr int kMaxChunks = 256;             // real files have a handful before their samples
  constexpr uint32_t kUnknown = 0x7fff'0000;  // and more: written to a pipe
  unsigned char head[24];
  if (::pread(fd, head, 12, 0) != 12) {
    return;
  }
  const bool aiff = is_word(head, "FORM") && is_word(head + 8, "AIF");
  const bool rf64 = is_word(head, "RF64") && is_word(head + 8, "WAVE");
  if (!aiff && !rf64 && !(is_word(head, "RIFF") && is_word(head + 8, "WAVE"))) {
    return;
  }
  uint64_t long_bytes = 0;  // of the samples, in RF64's own chunk
  uint64_t at = 12;
  for (int chunk = 0; chunk < kMaxChunks; ++chunk) {
    const ssize_t got = ::pread(fd, head, sizeof head, static_cast<off_t>(at));
    if (got < 8) {
      return;
    }
    const uint32_t bytes = aiff ? big_endian_32(head + 4) : little_endian_32(head + 4);
    if (is_word(head, aiff ? "SSND" : "data")) {
      const uint64_t promised = rf64 && bytes == UINT32_MAX ? long_bytes : bytes;
      const uint64_t there = size - at - 8;
      if (promised > there && (rf64 || bytes < kUnknown)) {
        throw InputError(
            "{}: is cut off: {} of {} bytes of samples are there; copy or export the file again",
            path.string(), there, promised);
      }
      return;
    }
    if (rf64 && is_word(head, "ds64") && got == sizeof head) {
      long_bytes = little_endian_32(head + 16) | uint64_t{little_endian_32(head + 20)} << 32;
    }
    at += 8 + uint64_t{bytes} + (bytes & 1);
  }
}

// What is refused before a sample is read.
void check_info(const SF_INFO& info, const fs::path& path) {
  if (container_name(info.format).empty()) {
    throw InputError("{}: has a format that is not read here; convert it to WAV or FLAC",
                     path.string());
  }
  if (info.channels < 1 || info.channels > kMaxAudioChannels) {
    throw InputError("{}: has {} channels; 1 to {} are read", path.string(), info.channels,
                     kMaxAudioChannels);
  }
  if (info.samplerate < kMinAudioSampleRate || info.samplerate > kMaxAudioSampleRate) {
    throw InputError("{}: has a sample rate of {} Hz; {} to {} are read", path.string(),
                     info.samplerate, kMinAudioSampleRate, kMaxAudioSampleRate);
  }
  // 2^48 frames are beyond any file and keep later sums from overflowing.
  if (info.frames < 0 || info.frames > int64_t{1} << 48 || info.seekable == 0) {
    throw InputError("{}: its length cannot be told; convert it to WAV or FLAC", path.string());
  }
}

bool seeks_exactly(int format) {
  const int container = format & SF_FORMAT_TYPEMASK;
  return container != SF_FORMAT_OGG && container != SF_FORMAT_MPEG;
}

}  // namespace

// ---- AudioReader

struct AudioReader::State {
  fs::path path;
  Descriptor fd;
  SoundFile file;
  AudioInfo info;
  bool seeks = true;
  int64_t position = 0;  // the frame that comes next

  SF_INFO open() {
    SF_INFO found{};
    position = 0;
    file.reset();  // first, as both use the same descriptor
    if (::lseek(fd.get(), 0, SEEK_SET) == 0) {
      file.reset(::sf_open_fd(fd.get(), SFM_READ, &found, SF_FALSE));
    }
    if (!file) {
      throw InputError(
          "{}: is no audio file that can be read here ({}); WAV, FLAC, Ogg and MP3 can",
          path.string(), reason_of(nullptr));
    }
    return found;
  }

  [[noreturn]] void refuse() {
    throw InputError("{}: cannot be read beyond frame {} of {} ({}); copy or export the file again",
                     path.string(), position, info.frames,
                     ::sf_error(file.get()) != 0 ? reason_of(file.get()) : "it is cut off");
  }

  void read(int64_t frames, float* interleaved) {
    const int64_t got = ::sf_readf_float(file.get(), interleaved, frames);
    position += std::max<int64_t>(got, 0);
    if (got != frames) {
      refuse();
    }
  }

  void move_to(int64_t frame) {
    if (frame == position) {
      return;
    }
    if (seeks) {
      if (::sf_seek(file.get(), frame, SF_SEEK_SET) != frame) {
        refuse();
      }
      position = frame;
      return;
    }
    if (frame < position) {
      open();
    }
    constexpr int64_t kSkipFrames = 4096;
    std::vector<float> skipped(static_cast<std::size_t>(kSkipFrames * info.channels));
    while (position < frame) {
      read(std::min(kSkipFrames, frame - position), skipped.data());
    }
  }
};

AudioReader::AudioReader(const fs::path& path) : state_(std::make_unique<State>()) {
  uint64_t size = 0;
  state_->path = path;
  state_->fd = open_audio(path, size);
  if (size == 0) {
    throw InputError("{}: is empty; give an audio file", path.string());
  }
  refuse_cut_pcm(state_->fd.get(), size, path);
  const SF_INFO info = state_->open();
  check_info(info, path);
  state_->seeks = seeks_exactly(info.format);
  state_->info = {
      .frames = info.frames,
      .sample_rate = info.samplerate,
      .channels = info.channels,
      .format = fmt::format("{}/{}", container_name(info.format), coding_name(info.format)),
      .exact_16_bit = is_exact_16_bit(info.format)};
}

AudioReader::~AudioReader() = default;
AudioReader::AudioReader(AudioReader&& other) noexcept = default;
AudioReader& AudioReader::operator=(AudioReader&& other) noexcept = default;

const AudioInfo& AudioReader::info() const { return state_->info; }
const fs::path& AudioReader::path() const { return state_->path; }

int64_t AudioReader::read(int64_t first_frame, int64_t frames, float* interleaved) {
  State& s = *state_;
  SF_CHECK(first_frame >= 0 && frames >= 0, "frames {} + {} of {}", first_frame, frames,
           s.path.string());
  frames = std::min(frames, s.info.frames - std::min(first_frame, s.info.frames));
  if (frames > 0) {
    s.move_to(first_frame);
    s.read(frames, interleaved);
  }
  return frames;
}

AudioInfo read_audio_info(const fs::path& path) { return AudioReader(path).info(); }

// ---- AudioWriter

namespace {

constexpr int64_t kBlockFrames = 4096;  // converted and given to the library at a time

std::string extension_of(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return extension;
}

int format_for(const fs::path& path, SampleFormat format) {
  const std::string extension = extension_of(path);
  if (extension != ".wav" && extension != ".flac") {
    throw UsageError("cannot write {}: audio is written as .wav or .flac", path.string());
  }
  if (extension == ".flac" && format == SampleFormat::kFloat32) {
    throw UsageError("cannot write {}: FLAC holds 16 or 24 bit integers; use .wav for floats",
                     path.string());
  }
  const int coding = format == SampleFormat::kPcm16   ? SF_FORMAT_PCM_16
                     : format == SampleFormat::kPcm24 ? SF_FORMAT_PCM_24
                                                      : SF_FORMAT_FLOAT;
  return (extension == ".wav" ? SF_FORMAT_WAV : SF_FORMAT_FLAC) | coding;
}

}  // namespace

struct AudioWriter::State {
  State(const fs::path& path, int channels_, SampleFormat format_)
      : partial(path), channels(channels_), format(format_) {}

  PartialFile partial;
  SoundFile file;  // closed before the partial file is
  int channels;
  SampleFormat format;
  int64_t frames = 0;
  int64_t most_frames = std::numeric_limits<int64_t>::max();
  int64_t clipped = 0;
  std::vector<int32_t> block;  // integers of one block, in the high bits as libsndfile wants them

  // One block as integers of `bits` bits.
  void convert(const float* samples, int64_t count, int bits) {
    const float scale = std::ldexp(1.0f, bits - 1);
    block.resize(static_cast<std::size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      const float scaled = std::nearbyint(samples[i] * scale);
      const float bounded = std::clamp(scaled, -scale, scale - 1);
      clipped += bounded == scaled ? 0 : 1;
      block[static_cast<std::size_t>(i)] =
          static_cast<int32_t>(static_cast<uint32_t>(static_cast<int32_t>(bounded)) << (32 - bits));
    }
  }

  [[noreturn]] void refuse() {
    const int reason = errno;
    if (reason != 0) {
      fail("write", partial.target(), reason);
    }
    throw IoError("cannot write {}: {}", partial.target().string(), reason_of(file.get()));
  }
};

int64_t most_wav_frames(int channels, SampleFormat format) {
  constexpr int64_t kBytes = INT64_C(0xffff'ffff) - 4096;  // the header's included
  const int bytes = format == SampleFormat::kPcm16 ? 2 : format == SampleFormat::kPcm24 ? 3 : 4;
  return kBytes / (bytes * channels);
}

AudioWriter::AudioWriter(const fs::path& path, int sample_rate, int channels, SampleFormat format) {
  SF_CHECK(channels >= 1 && channels <= kMaxAudioChannels, "{} channels", channels);
  SF_CHECK(sample_rate >= kMinAudioSampleRate && sample_rate <= kMaxAudioSampleRate, "{} Hz",
           sample_rate);
  SF_INFO info{};
  info.format = format_for(path, format);
  info.samplerate = sample_rate;
  info.channels = channels;
  if (::sf_format_check(&info) == 0) {
    throw UsageError("cannot write {}: {} channels at {} Hz do not fit its format; use .wav",
                     path.string(), channels, sample_rate);
  }
  state_ = std::make_unique<State>(path, channels, format);
  if ((info.format & SF_FORMAT_TYPEMASK) == SF_FORMAT_WAV) {
    state_->most_frames = most_wav_frames(channels, format);
  }
  errno = 0;
  state_->file.reset(::sf_open_fd(state_->partial.fd(), SFM_WRITE, &info, SF_FALSE));
  if (!state_->file) {
    state_->refuse();
  }
  // It would hold the time of writing: equal samples shall give equal bytes.
  ::sf_command(state_->file.get(), SFC_SET_ADD_PEAK_CHUNK, nullptr, SF_FALSE);
}

AudioWriter::~AudioWriter() = default;

void AudioWriter::write(const float* interleaved, int64_t frames) {
  State& s = *state_;
  SF_CHECK(s.file, "write after finish of {}", s.partial.target().string());
  if (frames > s.most_frames - s.frames) {
    throw IoError("cannot write {}: a WAV file holds 4 GiB at most; write .flac or shorter files",
                  s.partial.target().string());
  }
  for (int64_t done = 0; done < frames;) {
    const int64_t now = std::min(kBlockFrames, frames - done);
    const float* samples = interleaved + done * s.channels;
    const int64_t count = now * s.channels;
    const float* bad =
        std::find_if_not(samples, samples + count, [](float x) { return std::isfinite(x); });
    if (bad != samples + count) {
      throw NumericError("cannot write {}: the sample of frame {}, channel {} is not finite",
                         s.partial.target().string(), s.frames + (bad - samples) / s.channels,
                         (bad - samples) % s.channels);
    }
    errno = 0;
    int64_t written = 0;
    if (s.format == SampleFormat::kFloat32) {
      written = ::sf_writef_float(s.file.get(), samples, now);
    } else {
      s.convert(samples, count, s.format == SampleFormat::kPcm16 ? 16 : 24);
      written = ::sf_writef_int(s.file.get(), s.block.data(), now);
    }
    if (written != now) {
      s.refuse();
    }
    s.frames += now;
    done += now;
  }
}

int64_t AudioWriter::clipped() const { return state_->clipped; }

void AudioWriter::close() {
  State& s = *state_;
  SF_CHECK(s.file, "second close of {}", s.partial.target().string());
  errno = 0;
  // Closing writes what is buffered (of FLAC up to a block) and the lengths in the header. Of a
  // descriptor that is not its own, libsndfile says 0 whatever became of that: errno tells.
  const int status = ::sf_close(s.file.release());
  const int reason = errno;
  const bool lost = reason == ENOSPC || reason == EFBIG || reason == EDQUOT || reason == EIO;
  if (status != 0 || lost) {
    fail("write", s.partial.target(), lost ? reason : EIO);
  }
  s.partial.sync();
}

void AudioWriter::commit() {
  State& s = *state_;
  SF_CHECK(!s.file, "commit of {} before its close", s.partial.target().string());
  s.partial.commit();
}

void AudioWriter::finish() {
  close();
  commit();
}

}  // namespace stemfabric
