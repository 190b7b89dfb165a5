#include "trainer/audio_data/audio_manifest.h"

#include <fmt/chrono.h>

#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>

#include "kernels/stft_features/feature_layout.h"
#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/io/self_hash.h"
#include "trainer/training/json_fields.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kKind = "audio";

Json to_json(const ManifestTrack& track) {
  const AudioTrackInfo& info = track.info;
  Json stems = Json::array();
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (info.present[s]) {
      stems.push_back(kStemNames[s]);
    }
  }
  return {{"id", info.id},         {"file", info.file},
          {"frames", info.frames}, {"gain", info.gain},
          {"stems", stems},        {"remainder", info.remainder},
          {"bytes", info.bytes},   {"sha256", info.sha256},
          {"key", track.key},      {"audit", track_audit_to_json(track.audit)}};
}

void require_plain_file(const std::string& file, const std::string& source) {
  const fs::path path(file);
  bool plain = path.is_relative() && path.has_filename();
  for (const fs::path& part : path) {
    plain = plain && part != ".." && part != ".";
  }
  if (!plain) {
    throw InputError("{}: tracks: the file '{:.80}' does not lie in the data set's folder", source,
                     file);
  }
}

ManifestTrack track_from_json(const nlohmann::json& json, const std::string& source) {
  ManifestTrack track;
  AudioTrackInfo& info = track.info;
  info.id = json_field<std::string>(json, "id", source);
  info.file = json_field<std::string>(json, "file", source);
  require_plain_file(info.file, source);
  info.frames = json_field<int64_t>(json, "frames", source);
  info.gain = json_field<double>(json, "gain", source);
  constexpr double kMostGain = 1e30;  // finite in float32, and so are products with samples
  if (info.frames < 1 || !(info.gain > 1 / kMostGain && info.gain < kMostGain)) {
    throw InputError("{}: tracks: {} has {} frames and gain {}; make the data set again", source,
                     info.id, info.frames, info.gain);
  }
  for (const nlohmann::json& stem : json_member(json, "stems", source)) {
    const auto index = stem_index(json_value<std::string>(stem, "stems", source));
    if (!index) {
      throw InputError("{}: tracks: {} has a stem {}, which there is not", source, info.id,
                       stem.dump());
    }
    info.present[static_cast<std::size_t>(*index)] = true;
  }
  info.remainder = json_field<bool>(json, "remainder", source);
  info.bytes = json_field<uint64_t>(json, "bytes", source);
  info.sha256 = json_field<std::string>(json, "sha256", source);
  track.key = json_field<std::string>(json, "key", source);
  track.audit.id = info.id;
  track.audit.usable = true;
  track.audit.frames = info.frames;
  track.audit.gain = info.gain;
  track.audit.present = info.present;
  track_audit_from_json(json_member(json, "audit", source), source, track.audit);
  return track;
}

std::string creation_time() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace

std::string AudioManifest::hash() const {
  std::string text;
  for (std::size_t side = 0; side < kAudioSides; ++side) {
    for (const ManifestTrack& track : tracks[side]) {
      text += fmt::format("{} {}", kAudioSideNames[side], track_hash_line(track.info));
    }
  }
  return sha256_hex(text);
}

std::string audio_manifest_text(const AudioManifest& manifest) {
  Json map = {{"preset", manifest.preset}};
  for (std::size_t s = 0; s < kStemCount; ++s) {
    map[std::string(kStemNames[s])] = manifest.stems[s];
  }
  map["missing"] = manifest.missing;
  Json counts;
  Json tracks;
  for (std::size_t side = 0; side < kAudioSides; ++side) {
    counts[kAudioSideNames[side]] = manifest.tracks[side].size();
    tracks[kAudioSideNames[side]] = Json::array();
    for (const ManifestTrack& track : manifest.tracks[side]) {
      tracks[kAudioSideNames[side]].push_back(to_json(track));
    }
  }
  counts["leftOut"] = manifest.left_out.size();
  Json left_out = Json::array();
  for (const TrackAudit& track : manifest.left_out) {
    Json entry = {{"id", track.id}};
    entry.update(track_audit_to_json(track));
    left_out.push_back(entry);
  }
  const Json json = {
      {"format", "stemfabric-dataset"},
      {"version", 1},
      {"kind", kKind},
      {"runId", manifest.run_id},
      {"createdAt", creation_time()},
      {"hash", manifest.hash()},
      {"source", {{"root", manifest.root}, {"layout", manifest.layout}}},
      {"audio", {{"sampleRate", manifest.sample_rate}, {"channels", kAudioChannels}}},
      {"stemMap", map},
      {"split",
       {{"trainRatio", manifest.train_ratio},
        {"seed", manifest.split_seed},
        {"movedOneTrack", manifest.moved_one}}},
      {"counts", counts},
      {"tracks", tracks},
      {"leftOut", left_out},
      {kSelfHashKey, self_hash_placeholder()}};
  return seal_text(json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

bool is_audio_manifest(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  return json.is_object() && json.contains("kind") && json["kind"] == kKind;
}

AudioManifest parse_audio_manifest(const std::string& text, const fs::path& file) {
  refuse_wrong_seal(text, file);
  const std::string source = file.string();
  const nlohmann::json json = parse_json_object(text, source);
  if (json_field<std::string>(json, "kind", source) != kKind ||
      json_field<int64_t>(json, "version", source) != 1) {
    throw InputError("{}: is no manifest of an audio data set of version 1", source);
  }
  AudioManifest manifest;
  manifest.run_id = json_field<std::string>(json, "runId", source);
  const nlohmann::json& origin = json_member(json, "source", source);
  manifest.root = json_field<std::string>(origin, "root", source);
  manifest.layout = json_field<std::string>(origin, "layout", source);
  const nlohmann::json& audio = json_member(json, "audio", source);
  manifest.sample_rate = json_field<int64_t>(audio, "sampleRate", source);
  if (manifest.sample_rate < kLowestSampleRate || manifest.sample_rate > kHighestSampleRate) {
    throw InputError("{}: audio.sampleRate is {}, not {} to {}", source, manifest.sample_rate,
                     kLowestSampleRate, kHighestSampleRate);
  }
  if (json_field<int64_t>(audio, "channels", source) != kAudioChannels) {
    throw InputError("{}: audio.channels is not {}", source, kAudioChannels);
  }
  const nlohmann::json& map = json_member(json, "stemMap", source);
  manifest.preset = json_field<std::string>(map, "preset", source);
  for (std::size_t s = 0; s < kStemCount; ++s) {
    manifest.stems[s] = json_field<std::string>(map, kStemNames[s].data(), source);
  }
  manifest.missing = json_field<std::string>(map, "missing", source);
  const nlohmann::json& split = json_member(json, "split", source);
  manifest.train_ratio = json_field<double>(split, "trainRatio", source);
  manifest.split_seed = json_field<int64_t>(split, "seed", source);
  manifest.moved_one = json_field<bool>(split, "movedOneTrack", source);
  const nlohmann::json& tracks = json_member(json, "tracks", source);
  for (std::size_t side = 0; side < kAudioSides; ++side) {
    for (const nlohmann::json& track : json_member(tracks, kAudioSideNames[side], source)) {
      manifest.tracks[side].push_back(track_from_json(track, source));
    }
  }
  for (const nlohmann::json& track : json_member(json, "leftOut", source)) {
    TrackAudit audit;
    audit.id = json_field<std::string>(track, "id", source);
    track_audit_from_json(track, source, audit);
    manifest.left_out.push_back(std::move(audit));
  }
  return manifest;
}

}  // namespace stemfabric
