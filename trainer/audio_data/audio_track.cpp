#include "trainer/audio_data/audio_track.h"

#include <algorithm>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/io/self_hash.h"

namespace stemfabric {
namespace {

constexpr const char* kRemake = "it was changed or damaged, make the data set again";

// What one sample of the file stands for: i16 counts in steps of 2^-15, so the scaled factor is
// exact.
float unit(DType dtype, float factor) { return dtype == DType::kI16 ? factor * 0x1p-15F : factor; }

template <typename T>
void scale(const T* __restrict from, int64_t frames, float factor, float* __restrict out,
           float* __restrict mixture) {
  for (int64_t n = 0; n < frames; ++n) {
    const float value = factor * static_cast<float>(from[n]);
    out[n] = value;
    mixture[n] += value;
  }
}

template <typename T>
void add(const T* __restrict from, int64_t frames, float factor, float* __restrict mixture) {
  for (int64_t n = 0; n < frames; ++n) {
    mixture[n] += factor * static_cast<float>(from[n]);
  }
}

}  // namespace

std::string track_hash_line(const AudioTrackInfo& info) {
  return info.id + " " + info.sha256 + "\n";
}

AudioTrack::AudioTrack(const std::filesystem::path& root, AudioTrackInfo info)
    : info_(std::move(info)), file_(root / info_.file) {
  const auto refuse = [&](const std::string& what) {
    throw InputError("{}: {}; {}", file_.path().string(), what, kRemake);
  };
  const uint64_t bytes = std::filesystem::file_size(file_.path());
  if (bytes != info_.bytes) {
    refuse(fmt::format("has {} bytes, the manifest says {}", bytes, info_.bytes));
  }
  std::size_t expected = 0;
  const auto take = [&](const std::string& name, bool wanted) {
    if (file_.contains(name) != wanted) {
      refuse(fmt::format("{} a tensor {}, the manifest says otherwise",
                         wanted ? "does not have" : "has", name));
    }
    if (!wanted) {
      return ConstTensorView();
    }
    ++expected;
    const ConstTensorView& pcm = file_.at(name);
    if ((pcm.dtype() != DType::kI16 && pcm.dtype() != DType::kF32) ||
        pcm.shape() != Shape{kAudioChannels, info_.frames}) {
      refuse(fmt::format("tensor {} is {} {}, not [{}, {}] i16 or f32", name,
                         pcm.shape().to_string(), dtype_name(pcm.dtype()), kAudioChannels,
                         info_.frames));
    }
    return pcm;
  };
  for (std::size_t s = 0; s < kStemCount; ++s) {
    stems_[s] = take(fmt::format("pcm.{}", kStemNames[s]), info_.present[s]);
  }
  remainder_ = take("pcm.remainder", info_.remainder);
  if (file_.tensors().size() != expected) {
    refuse("has tensors that no track has");
  }
}

namespace {

// The part of [first, first + frames) that lies in a track.
int64_t frames_within(int64_t first, int64_t frames, int64_t length) {
  SF_CHECK(first >= 0 && frames >= 0, "frames {} + {}", first, frames);
  return std::clamp<int64_t>(length - first, 0, frames);
}

}  // namespace

void AudioTrack::read(int stem, int channel, int64_t first, int64_t frames, float factor,
                      float* out, float* mixture) const {
  const ConstTensorView& pcm = stems_[static_cast<std::size_t>(stem)];
  SF_CHECK(pcm, "track {} has no stem {}", info_.id, stem);
  const int64_t within = frames_within(first, frames, info_.frames);
  const int64_t at = channel * info_.frames + first;
  const float step = unit(pcm.dtype(), factor);
  if (pcm.dtype() == DType::kI16) {
    scale(pcm.as<int16_t>() + at, within, step, out, mixture);
  } else {
    scale(pcm.as<float>() + at, within, step, out, mixture);
  }
  std::fill(out + within, out + frames, 0.0F);
}

void AudioTrack::add_remainder(int channel, int64_t first, int64_t frames, float factor,
                               float* mixture) const {
  if (!remainder_) {
    return;
  }
  const int64_t within = frames_within(first, frames, info_.frames);
  const int64_t at = channel * info_.frames + first;
  const float step = unit(remainder_.dtype(), factor);
  if (remainder_.dtype() == DType::kI16) {
    add(remainder_.as<int16_t>() + at, within, step, mixture);
  } else {
    add(remainder_.as<float>() + at, within, step, mixture);
  }
}

void AudioTrack::verify() const {
  if (!same_hash(sha256_file(file_.path()), info_.sha256)) {
    throw InputError("{}: its content is not what the manifest says; {}", file_.path().string(),
                     kRemake);
  }
}

std::string hash_of_tracks(std::span<const std::shared_ptr<const AudioTrack>> tracks) {
  std::string text;
  for (const auto& track : tracks) {
    text += track_hash_line(track->info());
  }
  return sha256_hex(text);
}

}  // namespace stemfabric
