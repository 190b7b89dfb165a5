#include "trainer/audio_data/pcm_scratch.h"

#include <cerrno>
#include <system_error>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw IoError("cannot write {}: {}; free space there or choose another --output-dir",
                path.string(), std::generic_category().message(errno));
}

// False if a sample does not fit.
bool to_i16(const float* samples, int64_t frames, std::vector<int16_t>& result) {
  result.resize(static_cast<std::size_t>(frames));
  for (int64_t n = 0; n < frames; ++n) {
    const float scaled = samples[n] * 0x1p15F;
    if (!(scaled >= -32768.0F && scaled <= 32767.0F)) {
      return false;
    }
    const auto integer = static_cast<int16_t>(scaled);
    if (static_cast<float>(integer) != scaled) {
      return false;
    }
    result[static_cast<std::size_t>(n)] = integer;
  }
  return true;
}

}  // namespace

PcmScratch::PcmScratch(const std::filesystem::path& path, int64_t frames, DType dtype)
    : path_(path), frames_(frames), dtype_(dtype), stream_(path, std::ios::binary) {
  SF_CHECK(dtype == DType::kI16 || dtype == DType::kF32);
  if (!stream_) {
    fail(path);
  }
}

PcmScratch::~PcmScratch() {
  std::error_code error;
  std::filesystem::remove(path_, error);
}

bool PcmScratch::append(const StereoBlock& block, int64_t frames) {
  const auto width = static_cast<int64_t>(dtype_size(dtype_));
  for (int c = 0; c < kAudioChannels; ++c) {
    const void* bytes = block.channel(c);
    if (dtype_ == DType::kI16) {
      if (!to_i16(block.channel(c), frames, narrow_)) {
        return false;
      }
      bytes = narrow_.data();
    }
    stream_.seekp((c * frames_ + written_) * width);
    stream_.write(static_cast<const char*>(bytes), frames * width);
  }
  if (!stream_) {
    fail(path_);
  }
  written_ += frames;
  return true;
}

ConstTensorView PcmScratch::view() {
  SF_CHECK(written_ == frames_, "{} of {} frames", written_, frames_);
  stream_.close();
  if (!stream_) {
    fail(path_);
  }
  map_ = std::make_unique<MappedFile>(path_);
  return {map_->bytes().data(), dtype_, {kAudioChannels, frames_}};
}

}  // namespace stemfabric
