#include "trainer/audio_data/audio_track.h"

#include <algorithm>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/io/self_hash.h"

namespace stemfabric {
namespace {

constexpr const char* kRemake = "it was changed or damaged, make the data set again";

template <typename T>
void add_scaled(const T* __restrict from, int64_t frames, float factor, float* __restrict sum) {
  for (int64_t n = 0; n < frames; ++n) {
    sum[n] += factor * static_cast<float>(from[n]);
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
    pcm_[s] = take(fmt::format("pcm.{}", kStemNames[s]), info_.present[s]);
  }
  pcm_[kStemCount] = take("pcm.remainder", info_.remainder);
  if (file_.tensors().size() != expected) {
    refuse("has tensors that no track has");
  }
}

// i16 counts in steps of 2^-15, so the scaled factor is exact.
float AudioTrack::pcm_factor(int part, float factor) const {
  return pcm(part).dtype() == DType::kI16 ? factor * 0x1p-15F : factor;
}

void AudioTrack::add(int part, int channel, int64_t first, int64_t frames, float factor,
                     float* sum) const {
  const ConstTensorView& from = pcm(part);
  SF_CHECK(from, "track {} has no part {}", info_.id, part);
  SF_CHECK(first >= 0 && frames >= 0, "frames {} + {}", first, frames);
  const int64_t within = std::clamp<int64_t>(info_.frames - first, 0, frames);
  const int64_t at = channel * info_.frames + first;
  const float step = pcm_factor(part, factor);
  if (from.dtype() == DType::kI16) {
    add_scaled(from.as<int16_t>() + at, within, step, sum);
  } else {
    add_scaled(from.as<float>() + at, within, step, sum);
  }
}

bool AudioTrack::intact() const { return same_hash(sha256_file(path()), info_.sha256); }

std::string hash_of_tracks(std::span<const std::shared_ptr<const AudioTrack>> tracks) {
  std::string text;
  for (const auto& track : tracks) {
    text += track_hash_line(track->info());
  }
  return sha256_hex(text);
}

}  // namespace stemfabric
