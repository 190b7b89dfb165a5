#include "trainer/audio_data/audio_audit.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "trainer/audio_data/folder_listing.h"
#include "trainer/audio_data/level.h"
#include "trainer/training/json_fields.h"

namespace stemfabric {
namespace {

using Json = nlohmann::ordered_json;

constexpr float kFullScale = 32767.0F / 32768.0F;
constexpr double kSilence = 1e-6;  // -60 dB of full scale as energy

std::string level(double amplitude) {
  return amplitude > 0 ? fmt::format("{:.1f}", 20 * std::log10(amplitude)) : "-";
}

// Characters of UTF-8 text.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](unsigned char byte) { return (byte & 0xC0) != 0x80; }));
}

// Rows of equal length to aligned text; the first column to the left, the others to the right.
std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      widths[c] = std::max(widths[c], width(row[c]));
    }
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string padding(widths[c] - width(row[c]), ' ');
      line += c == 0 ? row[c] + padding : "  " + padding + row[c];
    }
    text += line + "\n";
  }
  return text;
}

// "44100", or "44100, 48000" of files that differ.
std::string rates_of(const TrackAudit& track) {
  std::vector<int> rates;
  for (const FileAudit& file : track.files) {
    if (std::ranges::find(rates, file.info.sample_rate) == rates.end()) {
      rates.push_back(file.info.sample_rate);
    }
  }
  std::string text;
  for (const int rate : rates) {
    text += fmt::format("{}{}", text.empty() ? "" : ", ", rate);
  }
  return text.empty() ? "-" : text;
}

// One letter per stem, in their order; a dot for one that is not there.
std::string stems_of(const TrackAudit& track) {
  std::string text;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    text += track.present[s] ? kStemNames[s][0] : '.';
  }
  return text;
}

const char* split_name(TrackSplit split) {
  switch (split) {
    case TrackSplit::kTrain:
      return "train";
    case TrackSplit::kValidation:
      return "validation";
    case TrackSplit::kTest:
      return "test";
    case TrackSplit::kByHash:
      break;
  }
  return "by hash";
}

std::vector<std::string> row_of(const TrackAudit& track, int64_t sample_rate) {
  double peak = 0;
  double silent = 0;
  int64_t clipped = 0;
  for (const FileAudit& file : track.files) {
    peak = std::max(peak, file.peak);
    silent = std::max(silent, file.silent);
    clipped += file.clipped;
  }
  const bool measured = !track.files.empty();
  const double seconds = static_cast<double>(track.frames) / static_cast<double>(sample_rate);
  constexpr std::size_t kLongestId = 40;
  const bool cut = track.id.size() > kLongestId;
  return {cut ? utf8_prefix(track.id, kLongestId - 3) + "..." : track.id,
          track.usable ? split_name(track.split) : "left out",
          track.frames > 0 ? fmt::format("{:.1f}", seconds) : "-",
          rates_of(track),
          track.usable ? stems_of(track) : "-",
          level(peak),
          track.usable ? level(kLevelTarget / track.gain) : "-",
          measured ? fmt::format("{}", clipped) : "-",
          measured ? fmt::format("{:.0f}", 100 * silent) : "-",
          track.sum_error_db ? fmt::format("{:.0f}", *track.sum_error_db) : "-"};
}

}  // namespace

std::string audit_table(const AudioAudit& audit) {
  std::vector<std::vector<std::string>> rows = {{"track", "split", "seconds", "rate", "stems",
                                                 "peak dB", "level dB", "clipped", "silent %",
                                                 "mix-sum dB"}};
  for (const TrackAudit& track : audit.tracks) {
    rows.push_back(row_of(track, audit.sample_rate));
  }
  std::string text = aligned(rows);
  for (const TrackAudit& track : audit.tracks) {
    for (const AudioProblem& problem : track.problems) {
      text +=
          fmt::format("{}: {}: {}\n", problem.fatal ? "left out" : "note", track.id, problem.text);
    }
  }
  return text;
}

nlohmann::ordered_json track_audit_to_json(const TrackAudit& track) {
  Json files = Json::array();
  for (const FileAudit& file : track.files) {
    files.push_back({{"file", file.file},
                     {"source", file.source},
                     {"format", file.info.format},
                     {"frames", file.info.frames},
                     {"sample_rate", file.info.sample_rate},
                     {"channels", file.info.channels},
                     {"peak", file.peak},
                     {"rms", file.rms},
                     {"clipped", file.clipped},
                     {"silent", file.silent}});
  }
  Json problems = Json::array();
  for (const AudioProblem& problem : track.problems) {
    problems.push_back({{"fatal", problem.fatal}, {"text", problem.text}});
  }
  Json json = {{"files", files}, {"remainder_db", track.remainder_db}, {"problems", problems}};
  if (track.sum_error_db) {
    json["sum_error_db"] = *track.sum_error_db;
  }
  return json;
}

std::string audit_text(const AudioAudit& audit) {
  Json tracks = Json::array();
  for (const TrackAudit& track : audit.tracks) {
    Json stems = Json::array();
    for (std::size_t s = 0; s < kStemCount; ++s) {
      if (track.present[s]) {
        stems.push_back(kStemNames[s]);
      }
    }
    Json entry = {{"id", track.id},         {"split", split_name(track.split)},
                  {"usable", track.usable}, {"frames", track.frames},
                  {"gain", track.gain},     {"stems", stems}};
    entry.update(track_audit_to_json(track));
    tracks.push_back(entry);
  }
  const Json json = {{"root", audit.root},
                     {"layout", audit.layout},
                     {"sample_rate", audit.sample_rate},
                     {"tracks", tracks}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void track_audit_from_json(const nlohmann::json& json, const std::string& source,
                           TrackAudit& track) {
  for (const auto& entry : json_member(json, "files", source)) {
    FileAudit file;
    file.file = json_field<std::string>(entry, "file", source);
    file.source = json_field<std::string>(entry, "source", source);
    file.info.format = json_field<std::string>(entry, "format", source);
    file.info.frames = json_field<int64_t>(entry, "frames", source);
    file.info.sample_rate = static_cast<int>(json_field<int64_t>(entry, "sample_rate", source));
    file.info.channels = static_cast<int>(json_field<int64_t>(entry, "channels", source));
    file.peak = json_field<double>(entry, "peak", source);
    file.rms = json_field<double>(entry, "rms", source);
    file.clipped = json_field<int64_t>(entry, "clipped", source);
    file.silent = json_field<double>(entry, "silent", source);
    track.files.push_back(std::move(file));
  }
  for (const auto& problem : json_member(json, "problems", source)) {
    track.problems.push_back({json_field<bool>(problem, "fatal", source),
                              json_field<std::string>(problem, "text", source)});
  }
  track.remainder_db = json_field<double>(json, "remainder_db", source);
  if (json.contains("sum_error_db")) {
    track.sum_error_db = json_field<double>(json, "sum_error_db", source);
  }
}

SignalMeter::SignalMeter(int64_t sample_rate)
    : block_frames_(std::max<int64_t>(1, sample_rate / 10)) {}

void SignalMeter::end_block() {
  ++blocks_;
  silent_blocks_ += block_energy_ < kSilence * static_cast<double>(2 * in_block_) ? 1 : 0;
  energy_ += block_energy_;
  block_energy_ = 0;
  in_block_ = 0;
}

void SignalMeter::add(const float* left, const float* right, int64_t frames) {
  frames_ += frames;
  for (int64_t n = 0; n < frames;) {
    const int64_t end = std::min(frames, n + block_frames_ - in_block_);
    in_block_ += end - n;
    for (; n < end; ++n) {
      for (const float sample : {left[n], right[n]}) {
        const float magnitude = std::abs(sample);
        peak_ = std::max(peak_, magnitude);
        clipped_ += magnitude >= kFullScale ? 1 : 0;
        block_energy_ += static_cast<double>(sample) * static_cast<double>(sample);
      }
    }
    if (in_block_ == block_frames_) {
      end_block();
    }
  }
}

void SignalMeter::finish(FileAudit& audit) {
  if (in_block_ > 0) {
    end_block();
  }
  audit.peak = static_cast<double>(peak_);
  audit.clipped = clipped_;
  audit.rms = frames_ == 0 ? 0 : std::sqrt(energy_ / static_cast<double>(2 * frames_));
  audit.silent =
      blocks_ == 0 ? 0 : static_cast<double>(silent_blocks_) / static_cast<double>(blocks_);
}

double decibels(double energy_ratio) {
  return energy_ratio > 1e-20 ? 10 * std::log10(energy_ratio) : -200.0;
}

}  // namespace stemfabric
