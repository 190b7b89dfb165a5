#include "trainer/audio_data/audio_dataset.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
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

// Is the mean magnitude of a mixture of so many frames at least that? add(channel, first, size,
// sum) adds some of it to zeros.
template <typename Add>
bool loud_enough(int64_t frames, double least, const Add& add) {
  constexpr int64_t kBlock = 4096;
  const int64_t count = kAudioChannels * frames;
  std::array<float, kBlock> values;
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    values.fill(0.0F);
    for (int64_t n = begin; n < end;) {  // a block may hold the end of one channel and then another
      const int64_t first = n % frames;
      const int64_t size = std::min(end - n, frames - first);
      add(static_cast<int>(n / frames), first, size, values.data() + (n - begin));
      n += size;
    }
    float block = 0;
    for (int64_t n = begin; n < end; ++n) {
      block += std::abs(values[static_cast<std::size_t>(n - begin)]);
    }
    sum += static_cast<double>(block);
    if (sum / static_cast<double>(count) >= least) {
      return true;  // what follows only adds to it
    }
  }
  return false;
}

bool changes_speed(const AudioSampling& sampling) {
  const AugmentationsConfig& change = sampling.augmentations;
  return change.enable && !sampling.fixed && (change.speed_min != 1 || change.speed_max != 1);
}

}  // namespace

AudioBatch::AudioBatch(int64_t rows, int64_t chunk_frames, int64_t part_bytes,
                       MemoryResource& memory)
    : capacity(rows),
      frames(chunk_frames),
      pcm({rows * kAudioParts * part_bytes}, DType::kU8, memory, "batch samples"),
      parts({rows, kAudioParts, static_cast<int64_t>(sizeof(ChunkPart))}, DType::kU8, memory,
            "batch parts"),
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
  bool floats = changes_speed(sampling_);
  for (std::size_t t = 0; t < tracks_.size(); ++t) {
    const AudioTrack& track = *tracks_[t];
    first_chunk_.push_back(first_chunk_.back() + chunks_of(track.frames(), chunk_frames()));
    first_frame_.push_back(first_frame_.back() + track.frames());
    for (int s = 0; s < kStemCount; ++s) {
      if (track.present(s)) {
        with_stem_[static_cast<std::size_t>(s)].push_back(static_cast<int64_t>(t));
      }
    }
    for (int p = 0; p < kAudioParts; ++p) {
      floats = floats || (track.pcm(p) && track.pcm(p).dtype() == DType::kF32);
    }
  }
  part_bytes_ =
      kAudioChannels * pcm_channel_bytes(floats ? PcmType::kF32 : PcmType::kI16, chunk_frames());
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
    plan.parts[s] = part;
  }
  if (!remix && base.info().remainder) {  // of one song, it has no place among stems of others
    plan.parts[kStemCount] = {&base, at.first, static_cast<float>(base.info().gain), false};
  }
  return plan;
}

int64_t AudioDataset::copy_parts(const Plan& plan, Tensor& pcm, int64_t begin,
                                 ChunkPart* parts) const {
  for (int p = 0; p < kAudioParts; ++p) {
    const Part& part = plan.parts[static_cast<std::size_t>(p)];
    if (part.track == nullptr) {
      parts[p] = {};
      continue;
    }
    const ConstTensorView& track = part.track->pcm(p);
    const PcmType type = track.dtype() == DType::kI16 ? PcmType::kI16 : PcmType::kF32;
    const int64_t frames =
        std::clamp<int64_t>(part.track->frames() - part.first, 0, chunk_frames());
    parts[p] = {.begin = begin,
                .frames = static_cast<int32_t>(frames),
                .factor = part.track->pcm_factor(p, part.factor),
                .type = type,
                .swap = part.swap ? 1U : 0U};
    for (int c = 0; c < kAudioChannels; ++c) {
      const int64_t sample = pcm_sample_bytes(type);
      std::memcpy(pcm.as<uint8_t>() + begin,
                  static_cast<const std::byte*>(track.data()) +
                      (c * part.track->frames() + part.first) * sample,
                  static_cast<std::size_t>(frames * sample));
      begin += pcm_channel_bytes(type, frames);
    }
  }
  return begin;
}

// The source of each part is read, however long it must be for the speed, and resampled: parts that
// are mixed as they are. What it needs beyond the track's ends is silence; a part that would reach
// beyond the end begins earlier.
int64_t AudioDataset::render_at_speed(const Plan& plan, Tensor& pcm, int64_t begin,
                                      ChunkPart* parts) const {
  const int64_t frames = chunk_frames();
  const SpeedChange change(plan.speed_percent);
  const int64_t length = change.source_frames(frames);
  std::vector<float> source(static_cast<std::size_t>(length));
  for (int p = 0; p < kAudioParts; ++p) {
    const Part& part = plan.parts[static_cast<std::size_t>(p)];
    if (part.track == nullptr) {
      parts[p] = {};
      continue;
    }
    parts[p] = {.begin = begin,
                .frames = static_cast<int32_t>(frames),
                .factor = 1.0F,
                .type = PcmType::kF32};
    const int64_t latest = part.track->frames() - (length - SpeedChange::kBefore);
    const int64_t first = std::max<int64_t>(0, std::min(part.first, latest)) - SpeedChange::kBefore;
    const int64_t silent = std::max<int64_t>(0, -first);
    for (int c = 0; c < kAudioChannels; ++c) {
      std::ranges::fill(source, 0.0F);
      part.track->add(p, part.swap ? 1 - c : c, first + silent, length - silent, part.factor,
                      source.data() + silent);
      change.apply(source.data(), frames, reinterpret_cast<float*>(pcm.as<uint8_t>() + begin));
      begin += pcm_channel_bytes(PcmType::kF32, frames);
    }
  }
  return begin;
}

AudioBatch AudioDataset::make_batch(int64_t capacity, MemoryResource& memory) const {
  return {capacity, chunk_frames(), part_bytes(), memory};
}

void AudioDataset::gather(std::span<const int64_t> samples, int64_t epoch,
                          AudioBatch& batch) const {
  const auto count = static_cast<int64_t>(samples.size());
  SF_CHECK(count <= batch.capacity, "{} chunks for a batch of {}", count, batch.capacity);
  SF_CHECK(batch.frames == chunk_frames() &&
               batch.pcm.elements() >= batch.capacity * kAudioParts * part_bytes(),
           "a batch of chunks of {} frames that another data set made", batch.frames);
  const int attempts = sampling_.fixed || sampling_.min_mean_abs <= 0 ? 1 : kMaxAttempts;
  auto* parts = reinterpret_cast<ChunkPart*>(batch.parts.as<uint8_t>());
  auto* presence = batch.presence.as<uint8_t>();
  batch.pcm_bytes = 0;
  for (int64_t row = 0; row < count; ++row) {
    Plan chunk;
    ChunkPart* const described = parts + row * kAudioParts;
    int64_t end = 0;
    for (int attempt = 0; attempt < attempts; ++attempt) {
      const bool last = attempt + 1 == attempts;
      chunk = plan(samples[static_cast<std::size_t>(row)], epoch, attempt);
      if (chunk.speed_percent == 100) {
        const auto of_tracks = [&](int c, int64_t first, int64_t size, float* sum) {
          for (int p = 0; p < kAudioParts; ++p) {
            if (const Part& part = chunk.parts[static_cast<std::size_t>(p)];
                part.track != nullptr) {
              part.track->add(p, part.swap ? 1 - c : c, part.first + first, size, part.factor, sum);
            }
          }
        };
        if (last || loud_enough(chunk_frames(), sampling_.min_mean_abs, of_tracks)) {
          end = copy_parts(chunk, batch.pcm, batch.pcm_bytes, described);
          break;
        }
      } else {
        end = render_at_speed(chunk, batch.pcm, batch.pcm_bytes, described);
        const auto of_parts = [&](int c, int64_t first, int64_t size, float* sum) {
          for (int p = 0; p < kAudioParts; ++p) {
            if (described[p].type == PcmType::kNone) {
              continue;
            }
            const auto* part = reinterpret_cast<const float*>(
                batch.pcm.as<uint8_t>() + described[p].begin +
                c * pcm_channel_bytes(PcmType::kF32, chunk_frames()));
            for (int64_t n = 0; n < size; ++n) {
              sum[n] += part[first + n];
            }
          }
        };
        if (last || loud_enough(chunk_frames(), sampling_.min_mean_abs, of_parts)) {
          break;
        }
      }
    }
    batch.pcm_bytes = end;
    for (std::size_t s = 0; s < kStemCount; ++s) {
      presence[static_cast<std::size_t>(row) * kStemCount + s] =
          chunk.parts[s].track != nullptr ? 1 : 0;
    }
  }
  const int64_t unused = batch.capacity - count;
  std::fill_n(parts + count * kAudioParts, unused * kAudioParts, ChunkPart{});
  std::fill_n(presence + count * kStemCount, unused * kStemCount, uint8_t{0});
  batch.size = count;
  batch.samples.assign(samples.begin(), samples.end());
}

}  // namespace stemfabric
