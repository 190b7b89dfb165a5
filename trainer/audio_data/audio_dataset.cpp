#include "trainer/audio_data/audio_dataset.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/common/philox.h"
#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/speed_change.h"
#include "trainer/random_purpose.h"

namespace stemfabric {
namespace {

constexpr int kMaxAttempts = 8;  // at a chunk that is loud enough

int64_t chunks_of(int64_t frames, int64_t chunk) { return (frames + chunk - 1) / chunk; }

// Uniform in [0, n): the high half of a 64 x 64 bit product; its bias is below n / 2^64.
int64_t below(int64_t n, uint32_t low, uint32_t high) {
  const uint64_t bits = (uint64_t{high} << 32) | low;
  __extension__ using Wide = unsigned __int128;
  return static_cast<int64_t>((Wide{bits} * static_cast<uint64_t>(n)) >> 64);
}

// An event of that probability.
bool hit(uint32_t word, double probability) {
  return static_cast<double>(word) * 0x1p-32 < probability;
}

double mean_magnitude(const float* values, int64_t count) {
  constexpr int64_t kBlock = 4096;
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    float block = 0;
    for (int64_t n = begin; n < end; ++n) {
      block += std::abs(values[n]);
    }
    sum += static_cast<double>(block);
  }
  return sum / static_cast<double>(count);
}

}  // namespace

AudioBatch::AudioBatch(int64_t rows, int64_t frames, MemoryResource& memory)
    : capacity(rows),
      stems({rows, kStemCount, kAudioChannels, frames}, DType::kF32, memory, "batch stems"),
      mixture({rows, kAudioChannels, frames}, DType::kF32, memory, "batch mixture"),
      presence({rows, kStemCount}, DType::kU8, memory, "batch presence") {
  samples.reserve(static_cast<std::size_t>(rows));
}

AudioSampling training_sampling(const Config& config) {
  return {.chunk_frames = config.audio.chunk_size,
          .sample_rate = config.audio.sample_rate,
          .samples_per_epoch = config.data.samples_per_epoch,
          .min_mean_abs = config.audio.min_mean_abs,
          .augmentations = config.augmentations,
          .seed = static_cast<uint64_t>(config.training.seed)};
}

AudioSampling validation_sampling(const Config& config) {
  return {.chunk_frames = config.audio.chunk_size,
          .sample_rate = config.audio.sample_rate,
          .augmentations = {},
          .fixed = true};
}

AudioDataset::AudioDataset(std::vector<std::shared_ptr<const AudioTrack>> tracks,
                           const AudioSampling& sampling)
    : tracks_(std::move(tracks)), sampling_(sampling) {
  SF_CHECK(!tracks_.empty() && sampling.chunk_frames > 0);
  first_chunk_ = {0};
  first_frame_ = {0};
  for (std::size_t t = 0; t < tracks_.size(); ++t) {
    const AudioTrack& track = *tracks_[t];
    first_chunk_.push_back(first_chunk_.back() + chunks_of(track.frames(), chunk_frames()));
    first_frame_.push_back(first_frame_.back() + track.frames());
    for (int s = 0; s < kStemCount; ++s) {
      if (track.present(s)) {
        with_stem_[static_cast<std::size_t>(s)].push_back(static_cast<int64_t>(t));
      }
    }
  }
  const bool counted = !sampling_.fixed && sampling_.samples_per_epoch > 0;
  size_ = counted ? sampling_.samples_per_epoch : first_chunk_.back();
}

// The random words of one chunk: Philox keyed by (seed, epoch, attempt), counted by (sample, what
// they are for), so that each can be drawn alone.
class AudioDataset::Draw {
 public:
  Draw(const AudioSampling& sampling, int64_t sample, int64_t epoch, int attempt)
      : sample_(static_cast<uint64_t>(sample)),
        key_(philox_launch_key(sampling.seed, static_cast<uint64_t>(epoch),
                               static_cast<uint32_t>(attempt),
                               static_cast<uint32_t>(RandomPurpose::kAudioChunk))) {}

  enum Use : uint32_t { kPlace, kRemix, kChange, kOtherPlace, kSpeed };
  PhiloxCounter words(Use use, std::size_t stem = 0) const {
    return philox4x32_10({{static_cast<uint32_t>(sample_), static_cast<uint32_t>(sample_ >> 32),
                           use, static_cast<uint32_t>(stem)}},
                         key_);
  }

 private:
  uint64_t sample_;
  PhiloxKey key_;
};

int64_t AudioDataset::spare(int64_t track) const {
  return std::max<int64_t>(0, tracks_[static_cast<std::size_t>(track)]->frames() - chunk_frames());
}

AudioDataset::Place AudioDataset::place(int64_t sample, int64_t epoch, int attempt) const {
  SF_CHECK(sample >= 0 && sample < size_, "chunk {} of {}", sample, size_);
  const auto track_at = [](const std::vector<int64_t>& first, int64_t position) {
    return std::upper_bound(first.begin(), first.end(), position) - first.begin() - 1;
  };
  if (sampling_.fixed || (sampling_.samples_per_epoch == 0 && attempt == 0)) {
    const int64_t track = track_at(first_chunk_, sample);
    const int64_t chunk = sample - first_chunk_[static_cast<std::size_t>(track)];
    const int64_t chunks = first_chunk_[static_cast<std::size_t>(track) + 1] -
                           first_chunk_[static_cast<std::size_t>(track)];
    if (sampling_.fixed) {
      return {track, chunks == 1 ? 0 : chunk * spare(track) / (chunks - 1)};
    }
    const PhiloxCounter w = Draw(sampling_, sample, epoch, attempt).words(Draw::kPlace);
    const int64_t begin = chunk * (spare(track) + 1) / chunks;
    const int64_t end = (chunk + 1) * (spare(track) + 1) / chunks;
    return {track, begin + below(std::max<int64_t>(end - begin, 1), w.word[2], w.word[3])};
  }
  const PhiloxCounter w = Draw(sampling_, sample, epoch, attempt).words(Draw::kPlace);
  const int64_t track = track_at(first_frame_, below(first_frame_.back(), w.word[0], w.word[1]));
  return {track, below(spare(track) + 1, w.word[2], w.word[3])};
}

std::string AudioDataset::id(int64_t sample, int64_t epoch) const {
  const Place at = place(sample, epoch, 0);
  return fmt::format("{} @ {:.3f} s", tracks_[static_cast<std::size_t>(at.track)]->info().id,
                     static_cast<double>(at.first) / static_cast<double>(sampling_.sample_rate));
}

AudioDataset::Plan AudioDataset::plan(int64_t sample, int64_t epoch, int attempt) const {
  const Place at = place(sample, epoch, attempt);
  const AudioTrack& base = *tracks_[static_cast<std::size_t>(at.track)];
  const Draw draw(sampling_, sample, epoch, attempt);
  const AugmentationsConfig& change = sampling_.augmentations;
  const bool augment = change.enable && !sampling_.fixed;
  const bool remix = augment && hit(draw.words(Draw::kRemix).word[0], change.remix);
  Plan plan;
  if (augment) {
    const int64_t slowest = std::llround(100 * change.speed_min);
    const int64_t steps = std::llround(100 * change.speed_max) - slowest + 1;
    const PhiloxCounter w = draw.words(Draw::kSpeed);
    plan.speed_percent = slowest + below(steps, w.word[0], w.word[1]);
  }
  for (std::size_t s = 0; s < kStemCount; ++s) {
    Part part{.track = &base, .first = at.first};
    if (remix && !with_stem_[s].empty()) {
      const PhiloxCounter w = draw.words(Draw::kOtherPlace, s);
      const int64_t other = below(static_cast<int64_t>(with_stem_[s].size()), w.word[0], w.word[1]);
      const int64_t track = with_stem_[s][static_cast<std::size_t>(other)];
      part.track = tracks_[static_cast<std::size_t>(track)].get();
      part.first = below(spare(track) + 1, w.word[2], w.word[3]);
    }
    if (!part.track->present(static_cast<int>(s))) {
      continue;
    }
    double factor = part.track->info().gain;
    if (augment) {
      const PhiloxCounter w = draw.words(Draw::kChange, s);
      const double low = std::log(change.loudness_min);
      const double high = std::log(change.loudness_max);
      factor *= std::exp(low + (high - low) * static_cast<double>(w.word[0]) * 0x1p-32);
      factor *= hit(w.word[1], change.polarity) ? -1.0 : 1.0;
      part.swap = hit(w.word[2], change.channel_swap);
    }
    part.factor = static_cast<float>(factor);
    plan.stems[s] = part;
  }
  if (!remix) {  // what is left of one song has no place among stems of others
    plan.remainder = {&base, at.first, static_cast<float>(base.info().gain), false};
  }
  return plan;
}

void AudioDataset::render(const Plan& plan, float* stems, float* mixture) const {
  if (plan.speed_percent != 100) {
    render_at_speed(plan, stems, mixture);
    return;
  }
  constexpr int64_t kBlock = 4096;  // frames: the mixture's stay in the first-level cache
  const int64_t frames = chunk_frames();
  for (int c = 0; c < kAudioChannels; ++c) {
    for (int64_t begin = 0; begin < frames; begin += kBlock) {
      const int64_t size = std::min(kBlock, frames - begin);
      float* sum = mixture + c * frames + begin;
      std::fill_n(sum, size, 0.0F);
      for (int s = 0; s < kStemCount; ++s) {
        const Part& part = plan.stems[static_cast<std::size_t>(s)];
        float* out = stems + (s * kAudioChannels + c) * frames + begin;
        if (part.track == nullptr) {
          std::fill_n(out, size, 0.0F);
        } else {
          part.track->read(s, part.swap ? 1 - c : c, part.first + begin, size, part.factor, out,
                           sum);
        }
      }
      if (const Part& rest = plan.remainder; rest.track != nullptr) {
        rest.track->add_remainder(c, rest.first + begin, size, rest.factor, sum);
      }
    }
  }
}

// The source of each part is read, however long it must be for the speed, and resampled. What it
// needs beyond the track's ends is silence; a part that would reach beyond the end begins earlier.
void AudioDataset::render_at_speed(const Plan& plan, float* stems, float* mixture) const {
  const int64_t frames = chunk_frames();
  const SpeedChange change(plan.speed_percent);
  const int64_t length = change.source_frames(frames);
  std::vector<float> source(static_cast<std::size_t>(length));
  std::vector<float> unused(static_cast<std::size_t>(length));
  std::vector<float> rest(static_cast<std::size_t>(frames));
  const auto add = [&](const float* values, float* sum) {
    for (int64_t n = 0; n < frames; ++n) {
      sum[n] += values[n];
    }
  };
  const auto play = [&](const Part& part, const auto& read, float* out) {
    const int64_t latest = part.track->frames() - (length - SpeedChange::kBefore);
    const int64_t first = std::max<int64_t>(0, std::min(part.first, latest)) - SpeedChange::kBefore;
    const int64_t silent = std::max<int64_t>(0, -first);
    std::fill_n(source.data(), silent, 0.0F);
    read(first + silent, length - silent, source.data() + silent);
    change.apply(source.data(), frames, out);
  };
  for (int c = 0; c < kAudioChannels; ++c) {
    float* sum = mixture + c * frames;
    std::fill_n(sum, frames, 0.0F);
    for (int s = 0; s < kStemCount; ++s) {
      const Part& part = plan.stems[static_cast<std::size_t>(s)];
      float* out = stems + (s * kAudioChannels + c) * frames;
      if (part.track == nullptr) {
        std::fill_n(out, frames, 0.0F);
        continue;
      }
      play(
          part,
          [&](int64_t first, int64_t count, float* to) {
            part.track->read(s, part.swap ? 1 - c : c, first, count, part.factor, to,
                             unused.data());
          },
          out);
      add(out, sum);
    }
    if (const Part& part = plan.remainder; part.track != nullptr) {
      play(
          part,
          [&](int64_t first, int64_t count, float* to) {
            std::fill_n(to, count, 0.0F);
            part.track->add_remainder(c, first, count, part.factor, to);
          },
          rest.data());
      add(rest.data(), sum);
    }
  }
}

void AudioDataset::gather(std::span<const int64_t> samples, int64_t epoch,
                          AudioBatch& batch) const {
  const auto count = static_cast<int64_t>(samples.size());
  SF_CHECK(count <= batch.capacity, "{} chunks for a batch of {}", count, batch.capacity);
  check_tensor("gather", "mixture", batch.mixture.view(), DType::kF32,
               {-1, kAudioChannels, chunk_frames()});
  const int64_t mixture_size = kAudioChannels * chunk_frames();
  const int64_t stems_size = kStemCount * mixture_size;
  const int attempts = sampling_.fixed || sampling_.min_mean_abs <= 0 ? 1 : kMaxAttempts;
  auto* presence = batch.presence.as<uint8_t>();
  for (int64_t row = 0; row < count; ++row) {
    float* mixture = batch.mixture.as<float>() + row * mixture_size;
    for (int attempt = 0; attempt < attempts; ++attempt) {
      const Plan chunk = plan(samples[static_cast<std::size_t>(row)], epoch, attempt);
      render(chunk, batch.stems.as<float>() + row * stems_size, mixture);
      for (std::size_t s = 0; s < kStemCount; ++s) {
        presence[static_cast<std::size_t>(row) * kStemCount + s] =
            chunk.stems[s].track != nullptr ? 1 : 0;
      }
      if (attempts == 1 || mean_magnitude(mixture, mixture_size) >= sampling_.min_mean_abs) {
        break;
      }
    }
  }
  const int64_t unused = batch.capacity - count;
  std::fill_n(batch.stems.as<float>() + count * stems_size, unused * stems_size, 0.0F);
  std::fill_n(batch.mixture.as<float>() + count * mixture_size, unused * mixture_size, 0.0F);
  std::fill_n(presence + count * kStemCount, unused * kStemCount, uint8_t{0});
  batch.size = count;
  batch.samples.assign(samples.begin(), samples.end());
}

}  // namespace stemfabric
