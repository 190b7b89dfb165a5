#include "trainer/evaluation/track_results.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "trainer/training/json_fields.h"

namespace stemfabric {
namespace {

using nlohmann::json;

constexpr const char* kFolder = "tracks";
constexpr std::array<const char*, 3> kStates = {"evaluated", "absent", "silent"};
struct Score {
  const char* name;
  double AudioScores::*value;
};
constexpr std::array<Score, 5> kScores = {{{"sdr", &AudioScores::sdr},
                                           {"isr", &AudioScores::isr},
                                           {"sir", &AudioScores::sir},
                                           {"sar", &AudioScores::sar},
                                           {"trackSdr", &AudioScores::track_sdr}}};

// NaN is null.
json to_json(const AudioScores& scores) {
  json object = json::object();
  for (const Score& score : kScores) {
    const double value = scores.*score.value;
    object[score.name] = std::isnan(value) ? json(nullptr) : json(value);
  }
  return object;
}

AudioScores scores_from(const json& object, const std::string& source) {
  AudioScores scores;
  for (const Score& score : kScores) {
    const json& value = json_member(object, score.name, source);
    if (!value.is_null()) {
      scores.*score.value = json_value<double>(value, score.name, source);
    }
  }
  return scores;
}

json to_json(const AudioExcerpt& excerpt) {
  return {{"file", excerpt.file}, {"picture", excerpt.picture}};
}

AudioExcerpt excerpt_from(const json& object, const std::string& source) {
  return {.file = json_field<std::string>(object, "file", source),
          .picture = json_field<std::string>(object, "picture", source)};
}

json to_json(const AudioExample& example) {
  json rows = json::array();
  for (const AudioExampleRow& row : example.rows) {
    rows.push_back(
        {{"name", row.name}, {"truth", to_json(row.truth)}, {"estimate", to_json(row.estimate)}});
  }
  return {{"begin", example.begin}, {"seconds", example.seconds}, {"rows", std::move(rows)}};
}

AudioExample example_from(const json& object, const std::string& track, const std::string& source) {
  AudioExample example{.track = track,
                       .begin = json_field<double>(object, "begin", source),
                       .seconds = json_field<double>(object, "seconds", source),
                       .rows = {}};
  for (const json& row : json_member(object, "rows", source)) {
    example.rows.push_back(
        {.name = json_field<std::string>(row, "name", source),
         .truth = excerpt_from(json_member(row, "truth", source), source),
         .estimate = excerpt_from(json_member(row, "estimate", source), source)});
  }
  return example;
}

bool files_are_there(const AudioExample& example, const std::filesystem::path& folder) {
  for (const AudioExampleRow& row : example.rows) {
    for (const AudioExcerpt* excerpt : {&row.truth, &row.estimate}) {
      if (!excerpt->file.empty() && !std::filesystem::exists(folder / excerpt->file)) {
        return false;
      }
    }
  }
  return true;
}

AudioTrackEvaluation evaluation_from(const json& object, const AudioTrack& track,
                                     int64_t sample_rate, const std::string& source) {
  AudioTrackEvaluation evaluation{
      .id = track.info().id, .frames = track.frames(), .sample_rate = sample_rate, .scores = {}};
  const json& stems = json_member(object, "stems", source);
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const json& stem = json_member(stems, std::string(kStemNames[s]).c_str(), source);
    const auto state = json_field<std::string>(stem, "state", source);
    const auto* const known = std::find(kStates.begin(), kStates.end(), state);
    if (known == kStates.end()) {
      throw InputError("{}: \"{}\" is not a state of a stem", source, state);
    }
    evaluation.states[s] = static_cast<StemState>(known - kStates.begin());
    for (std::size_t e = 0; e < kAudioEstimators; ++e) {
      evaluation.scores[e][s] =
          scores_from(json_member(stem, kAudioEstimatorNames[e], source), source);
    }
  }
  return evaluation;
}

}  // namespace

TrackResults::TrackResults(std::filesystem::path report_folder, const std::string& how)
    : report_folder_(std::move(report_folder)) {
  const std::filesystem::path folder = report_folder_ / kFolder;
  const std::filesystem::path mark = folder / "evaluation.sha256";
  const std::string hash = sha256_hex(how);
  std::error_code ignored;
  if (std::filesystem::exists(mark, ignored) && read_text_file(mark) == hash) {
    return;
  }
  std::filesystem::remove_all(folder, ignored);
  make_directories(folder);
  write_text_file(mark, hash);
}

std::filesystem::path TrackResults::file(int number) const {
  return report_folder_ / kFolder / fmt::format("{:04}.json", number);
}

std::optional<TrackResults::Result> TrackResults::find(int number, const AudioTrack& track,
                                                       int64_t sample_rate) const {
  const std::filesystem::path path = file(number);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return std::nullopt;
  }
  try {
    const std::string source = path.string();
    const json object = parse_json_object(read_text_file(path), source);
    Result result{.evaluation = evaluation_from(object, track, sample_rate, source), .example = {}};
    if (const json& example = json_member(object, "example", source); !example.is_null()) {
      result.example = example_from(example, track.info().id, source);
      if (!files_are_there(*result.example, report_folder_)) {
        return std::nullopt;
      }
    }
    return result;
  } catch (const Error& error) {
    log_warning("{}; the track is evaluated again", error.what());
    return std::nullopt;
  }
}

void TrackResults::keep(int number, const Result& result) const {
  json stems = json::object();
  for (std::size_t s = 0; s < kStemCount; ++s) {
    json stem = {{"state", kStates[static_cast<std::size_t>(result.evaluation.states[s])]}};
    for (std::size_t e = 0; e < kAudioEstimators; ++e) {
      stem[kAudioEstimatorNames[e]] = to_json(result.evaluation.scores[e][s]);
    }
    stems[std::string(kStemNames[s])] = std::move(stem);
  }
  const json object = {{"id", result.evaluation.id},
                       {"stems", std::move(stems)},
                       {"example", result.example ? to_json(*result.example) : json(nullptr)}};
  write_text_file(file(number), object.dump());
}

}  // namespace stemfabric
