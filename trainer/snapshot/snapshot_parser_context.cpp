// Musical context, stems and corrections of a snapshot.
#include <cmath>

#include "trainer/snapshot/snapshot_parser_state.h"

namespace stemfabric {
namespace {

using namespace strict_json;  // NOLINT(google-build-using-namespace)

constexpr std::array<std::string_view, 3> kContextFields = {"key", "transients", "harmonicContent"};
constexpr std::array<std::string_view, 2> kHarmonicFields = {"dominantFrequencies", "tensionLevel"};
constexpr std::array<std::string_view, 2> kTransientFields = {"time", "strength"};

const std::vector<std::string>& stem_paths() {
  static const std::vector<std::string> kPaths = field_paths("groundTruthStems", kStemNames);
  return kPaths;
}

}  // namespace

void SnapshotParser::State::read_context(od::value value) {
  Required required(kContextFields);
  visit_object(object(value, "musicalContext"), keys, "musicalContext",
               [&](std::string_view key, od::value field) {
                 if (key == "key") {
                   required.saw(0);
                   read_key(field);
                 } else if (key == "mode") {
                   read_mode(field);
                 } else if (key == "bpm") {
                   read_bpm(field);
                 } else if (key == "transients") {
                   required.saw(1);
                   read_transients(field);
                 } else if (key == "harmonicContent") {
                   required.saw(2);
                   read_harmonic_content(field);
                 } else {
                   drop(field, "musicalContext", 2);
                 }
               });
  required.check("musicalContext");
}

void SnapshotParser::State::read_key(od::value value) {
  constexpr std::array<std::string_view, 5> kFlats = {"Db", "Eb", "Gb", "Ab", "Bb"};
  constexpr std::array<int, 5> kSharps = {1, 3, 6, 8, 10};
  const std::string_view name = string(value, text, "musicalContext.key");
  if (const auto key = index_of(kKeyNames, name)) {
    record->context.key = *key;
  } else if (const auto flat = index_of(kFlats, name)) {
    record->context.key = kSharps[static_cast<std::size_t>(*flat)];
    repair("musicalContext.key", "flat rewritten as sharp");
  } else {
    throw Refusal("musicalContext.key is none of the twelve key names");
  }
}

void SnapshotParser::State::read_mode(od::value value) {
  if (take(value.type(), "musicalContext.mode") == od::json_type::string) {
    const std::string_view mode = string(value, text, "musicalContext.mode");
    if (mode == "major" || mode == "minor") {
      record->context.mode = mode == "major" ? Mode::kMajor : Mode::kMinor;
      return;
    }
  } else {
    validate(value, keys, "musicalContext.mode", 2, kMaxSnapshotDepth);
  }
  repair("musicalContext.mode", "neither major nor minor, dropped");
}

void SnapshotParser::State::read_bpm(od::value value) {
  if (is_null(value, "musicalContext.bpm")) {
    return;
  }
  const double bpm = number(value, "musicalContext.bpm");
  if (bpm > 0.0) {
    record->context.bpm = bpm;
  } else {
    repair("musicalContext.bpm", "not positive, became null");
  }
}

void SnapshotParser::State::read_transients(od::value value) {
  constexpr std::string_view kWhere = "musicalContext.transients";
  for (auto result : array(value, kWhere)) {
    od::value element = take(std::move(result), kWhere);
    Required required(kTransientFields);
    visit_object(object(element, kWhere), keys, kWhere, [&](std::string_view key, od::value field) {
      if (key == "time") {
        required.saw(0);
        transient_times.push_back(number(field, "musicalContext.transients[].time"));
      } else if (key == "strength") {
        required.saw(1);
        clamp01(number(field, "musicalContext.transients[].strength"),
                "musicalContext.transients[].strength");
      } else {
        drop(field, kWhere, 4);
      }
    });
    required.check("musicalContext.transients[]");
  }
}

void SnapshotParser::State::read_harmonic_content(od::value value) {
  constexpr std::string_view kWhere = "musicalContext.harmonicContent";
  constexpr std::string_view kFrequencies = "musicalContext.harmonicContent.dominantFrequencies";
  constexpr std::string_view kTension = "musicalContext.harmonicContent.tensionLevel";
  Required required(kHarmonicFields);
  visit_object(object(value, kWhere), keys, kWhere, [&](std::string_view key, od::value field) {
    if (key == "dominantFrequencies") {
      required.saw(0);
      std::vector<double>& kept = record->context.dominant_frequencies;
      for (auto result : array(field, kFrequencies)) {
        od::value element = take(std::move(result), kFrequencies);
        const double frequency = number(element, kFrequencies);
        if (kept.size() < kDominantFrequencies) {
          kept.push_back(frequency);
        } else {
          repair(kFrequencies, "value after the tenth dropped");
        }
      }
    } else if (key == "tensionLevel") {
      required.saw(1);
      record->context.tension = clamp01(number(field, kTension), kTension);
    } else {
      drop(field, kWhere, 3);
    }
  });
  required.check(kWhere);
}

void SnapshotParser::State::read_stems(od::value value) {
  constexpr std::string_view kWhere = "groundTruthStems";
  if (is_null(value, kWhere)) {
    repair(kWhere, "null counts as absent");
    return;
  }
  record->has_ground_truth = true;
  visit_object(object(value, kWhere), keys, kWhere, [&](std::string_view key, od::value field) {
    const std::optional<int> stem = stem_index(key);
    if (!stem) {
      drop(field, kWhere, 2);
      return;
    }
    const auto s = static_cast<std::size_t>(*stem);
    if (is_null(field, kWhere)) {
      repair(stem_paths()[s], "null counts as absent");
      return;
    }
    read_floats(field, stem_paths()[s], kMaxStemValues, record->stems[s]);
    record->has_stem[s] = true;
  });
}

void SnapshotParser::State::read_corrections(od::value value) {
  constexpr std::string_view kWhere = "userCorrections";
  if (is_null(value, kWhere)) {
    repair(kWhere, "null counts as absent");
    return;
  }
  for (auto result : array(value, kWhere)) {
    read_correction(take(std::move(result), kWhere));
  }
}

// A range of two numbers, in order; nothing if it is anything else.
std::optional<std::array<double, 2>> SnapshotParser::State::read_range(od::value value,
                                                                       std::string_view where) {
  if (take(value.type(), where) != od::json_type::array) {
    validate(value, keys, where, 3, kMaxSnapshotDepth);
    return std::nullopt;
  }
  std::array<double, 2> range{};
  std::size_t count = 0;
  bool good = true;
  for (auto result : take(value.get_array(), where)) {
    od::value element = take(std::move(result), where);
    if (take(element.type(), where) != od::json_type::number) {
      validate(element, keys, where, 4, kMaxSnapshotDepth);
      good = false;
    } else if (count < 2) {
      range[count] = number(element, where);
    } else {
      number(element, where);
    }
    ++count;
  }
  if (!good || count != 2) {
    return std::nullopt;
  }
  if (range[0] > range[1]) {
    std::swap(range[0], range[1]);
    repair(where, "reversed range swapped");
  }
  return range;
}

void SnapshotParser::State::read_correction(od::value value) {
  constexpr std::string_view kWhere = "userCorrections[]";
  if (take(value.type(), kWhere) != od::json_type::object) {
    validate(value, keys, kWhere, 2, kMaxSnapshotDepth);
    repair(kWhere, "not an object, dropped");
    return;
  }
  std::optional<int> stem;
  std::optional<int> type;
  std::optional<double> strength;
  std::array<double, 2> frequency = {0.0, 20000.0};
  bool good_ranges = true;
  const auto known_name = [&](od::value& field, const auto& lookup) -> std::optional<int> {
    if (take(field.type(), kWhere) == od::json_type::string) {
      return lookup(string(field, text, kWhere));
    }
    validate(field, keys, kWhere, 3, kMaxSnapshotDepth);
    return std::nullopt;
  };
  visit_object(
      take(value.get_object(), kWhere), keys, kWhere, [&](std::string_view key, od::value field) {
        if (key == "correctedStem") {
          stem = known_name(field, [](std::string_view name) { return stem_index(name); });
        } else if (key == "correctionType") {
          type = known_name(field,
                            [](std::string_view name) { return index_of(kCorrectionTypes, name); });
        } else if (key == "strength") {
          if (take(field.type(), kWhere) == od::json_type::number) {
            strength = number(field, "userCorrections[].strength");
          } else {
            validate(field, keys, kWhere, 3, kMaxSnapshotDepth);
          }
        } else if (key == "frequencyRange") {
          const auto range = read_range(field, "userCorrections[].frequencyRange");
          good_ranges = good_ranges && range;
          frequency = range.value_or(frequency);
        } else if (key == "timeRange") {
          good_ranges = read_range(field, "userCorrections[].timeRange") && good_ranges;
        } else {
          drop(field, kWhere, 3);
        }
      });
  const char* wrong = !stem          ? "correctedStem is unknown, correction dropped"
                      : !type        ? "correctionType is unknown, correction dropped"
                      : !strength    ? "strength is no number, correction dropped"
                      : !good_ranges ? "a range is not two numbers, correction dropped"
                                     : nullptr;
  if (wrong != nullptr) {
    repair(kWhere, wrong);
    return;
  }
  const double clamped = clamp01(*strength, "userCorrections[].strength");
  record->corrections.insert(record->corrections.end(),
                             {*stem / static_cast<double>(kStemCount),
                              *type / static_cast<double>(kCorrectionTypes.size()), clamped,
                              frequency[0] / 20000.0, frequency[1] / 20000.0});
}

}  // namespace stemfabric
