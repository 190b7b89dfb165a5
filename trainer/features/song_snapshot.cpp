#include "trainer/features/song_snapshot.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>
#include <string_view>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/audio/audio_input.h"
#include "trainer/audio/resample.h"
#include "trainer/audio_data/folder_listing.h"
#include "trainer/features/feature_groups.h"
#include "trainer/features/tonality.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
constexpr auto kSpectral = static_cast<std::size_t>(FeatureGroup::kSpectral);

SongSamples read_song(const fs::path& path, AudioLayout layout) {
  const Tensor audio = read_audio(path, layout);
  const int64_t samples = audio.view().dim(1);
  const float* planar = audio.view().as<float>();
  SongSamples song{.sample_rate = layout.sample_rate};
  for (int64_t channel = 0; channel < layout.channels; ++channel) {
    const float* from = planar + channel * samples;
    song.channels.emplace_back(from, from + samples);
  }
  song.mono = song.channels[0];
  if (layout.channels == 2) {
    for (std::size_t i = 0; i < song.mono.size(); ++i) {
      song.mono[i] = 0.5f * (song.mono[i] + song.channels[1][i]);
    }
  }
  return song;
}

AudioLayout layout_of(const fs::path& path) {
  const AudioInfo info = read_audio_info(path);
  if (info.channels > 2) {
    throw InputError("{} has {} channels; features are made of mono and stereo", path.string(),
                     info.channels);
  }
  return {.sample_rate = info.sample_rate, .channels = info.channels};
}

// A UUID of version 4 whose random bits are those of the file's SHA-256: the same audio, the same
// id.
std::string audio_uuid(const fs::path& path) {
  std::string hex = sha256_file(path).substr(0, 32);
  hex[12] = '4';
  hex[16] = "89ab"[std::string_view("0123456789abcdef").find(hex[16]) % 4];
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" +
         hex.substr(16, 4) + "-" + hex.substr(20);
}

int64_t modified_milliseconds(const fs::path& path) {
  const auto time = fs::last_write_time(path);
  const auto system = std::chrono::file_clock::to_sys(time);
  return std::chrono::duration_cast<std::chrono::milliseconds>(system.time_since_epoch()).count();
}

// The audio file of a stem among those of a folder.
std::optional<fs::path> stem_file(const std::vector<fs::path>& files, std::string_view stem) {
  std::optional<fs::path> found;
  for (const fs::path& file : files) {
    if (file.stem() == stem) {
      if (found) {
        throw InputError("{} and {} are both the stem {}; keep one", found->string(), file.string(),
                         stem);
      }
      found = file;
    }
  }
  return found;
}

// Band energies of each stem at the places of every h-th kept spectral value of the mixture.
void add_stems(const ExecutionContext& ctx, const fs::path& folder, const SongSamples& song,
               SnapshotRecord& record) {
  const auto kept = static_cast<int64_t>(record.groups[kSpectral].size());
  const int64_t step = kept <= kMaxStemValues ? 1 : 2;
  const auto audio_files = list_folder(folder).audio_files;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const auto path = stem_file(audio_files, kStemNames[s]);
    if (!path) {
      continue;
    }
    const SongSamples stem = read_song(*path, {.sample_rate = song.sample_rate,
                                               .channels = static_cast<int>(song.channel_count())});
    if (stem.samples() != song.samples()) {
      throw InputError("{} has {} samples, its mixture {}: they must be equally long",
                       path->string(), stem.samples(), song.samples());
    }
    record.stems[s] =
        band_energies(ctx, stem.mono, stem.sample_rate, step * record.strides[kSpectral]);
    record.has_stem[s] = true;
    record.has_ground_truth = true;
  }
  if (!record.has_ground_truth) {
    throw InputError(
        "{} holds no stem: no audio file ({}) named vocals, drums, bass, harmonic, perc or sub",
        folder.string(), kAudioExtensions);
  }
}

// Each in the shortest form that reads back to the same float32.
void append_floats(std::string& out, const std::vector<float>& values) {
  char text[32];
  out += '[';
  for (const float value : values) {
    const auto [end, error] = std::to_chars(text, text + sizeof text, value);
    out.append(out.back() == '[' ? "" : ",").append(text, end);
  }
  out += ']';
}

void append_context(std::string& out, const SongSnapshot& snapshot) {
  const MusicalContext& context = snapshot.record.context;
  out += fmt::format("\"musicalContext\":{{\"key\":\"{}\"",
                     kKeyNames[static_cast<std::size_t>(context.key)]);
  if (context.mode != Mode::kUnknown) {
    out += context.mode == Mode::kMajor ? ",\"mode\":\"major\"" : ",\"mode\":\"minor\"";
  }
  out += context.bpm ? fmt::format(",\"bpm\":{}", *context.bpm) : ",\"bpm\":null";
  out += ",\"transients\":[";
  for (const Onset& onset : snapshot.transients) {
    out += fmt::format("{}{{\"time\":{:.4f},\"strength\":{:.4f}}}", out.back() == '[' ? "" : ",",
                       onset.time, onset.strength);
  }
  out += "],\"harmonicContent\":{\"dominantFrequencies\":[";
  for (const double hertz : context.dominant_frequencies) {
    out += fmt::format("{}{:.3f}", out.back() == '[' ? "" : ",", hertz);
  }
  out += fmt::format("],\"tensionLevel\":{:.4f}}}}}", context.tension);
}

}  // namespace

SongSnapshot analyse_song(const ExecutionContext& ctx, const SongFiles& files) {
  const AudioLayout layout = layout_of(files.mixture);
  const SongSamples song = read_song(files.mixture, layout);
  constexpr int64_t kWindow = geometry(FeatureGroup::kSpectral).window;
  if (song.samples() <= kWindow) {
    throw InputError("{} has {} samples; a snapshot needs more than {}", files.mixture.string(),
                     song.samples(), kWindow);
  }
  SongSnapshot snapshot;
  SnapshotRecord& record = snapshot.record;
  record.id = audio_uuid(files.mixture);
  snapshot.timestamp = modified_milliseconds(files.mixture);
  record.samples = song.samples();
  record.sample_rate = song.sample_rate;
  record.channels = song.channel_count();

  const OnsetEnvelope envelope =
      onset_envelope(ctx, resample(song.mono, 1, song.sample_rate, OnsetEnvelope::kSampleRate));
  snapshot.transients = find_onsets(envelope, kMaxSnapshotTransients);
  if (const auto bpm = estimate_tempo(envelope)) {
    record.context.bpm = std::round(*bpm);
  }
  const Tonality tonality =
      analyse_tonality(ctx, resample(song.mono, 1, song.sample_rate, Tonality::kSampleRate));
  record.context.key = tonality.key;
  record.context.mode = tonality.mode;
  record.context.dominant_frequencies = tonality.dominant_frequencies;
  record.context.tension = tonality.tension;

  for (std::size_t g = 0; g < kGroupCount; ++g) {
    const auto group = static_cast<FeatureGroup>(g);
    record.strides[g] = stride_of(raw_length(group, song.samples(), song.channel_count()));
    record.groups[g] = feature_group(ctx, group, song, snapshot.transients);
  }
  if (!files.stems.empty()) {
    add_stems(ctx, files.stems, song, record);
  }
  return snapshot;
}

std::string snapshot_json(const SongSnapshot& snapshot) {
  const SnapshotRecord& record = snapshot.record;
  std::string out = fmt::format(
      "{{\"id\":\"{}\",\"timestamp\":{},\"originalAudio\":{{\"duration\":{},\"sampleRate\":{},"
      "\"channels\":{}}},\"quantumFeatures\":{{",
      record.id, snapshot.timestamp, static_cast<double>(record.samples) / record.sample_rate,
      record.sample_rate, record.channels);
  for (std::size_t g = 0; g < kGroupCount; ++g) {
    out += fmt::format("{}\"{}\":", g == 0 ? "" : ",", kGroupNames[g]);
    append_floats(out, record.groups[g]);
  }
  out += "},";
  append_context(out, snapshot);
  if (record.has_ground_truth) {
    out += ",\"groundTruthStems\":{";
    for (std::size_t s = 0; s < kStemCount; ++s) {
      if (record.has_stem[s]) {
        out += fmt::format("{}\"{}\":", out.back() == '{' ? "" : ",", kStemNames[s]);
        append_floats(out, record.stems[s]);
      }
    }
    out += "}";
  }
  // No classifier ran, and no time of a run belongs into a result.
  out += ",\"metadata\":{\"classification\":\"unknown\",\"confidence\":0,\"processingTime\":0}}";
  return out;
}

}  // namespace stemfabric
