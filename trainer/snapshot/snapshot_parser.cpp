#include "trainer/snapshot/snapshot_parser.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "trainer/snapshot/strict_json.h"

namespace stemfabric {
namespace {

using namespace strict_json;  // NOLINT(google-build-using-namespace)

constexpr std::string_view kDropped = "unknown field dropped";

std::vector<std::string> paths(std::string_view parent, std::span<const std::string_view> names) {
  std::vector<std::string> result;
  for (const std::string_view name : names) {
    result.push_back(fmt::format("{}.{}", parent, name));
  }
  return result;
}
const std::vector<std::string>& group_paths() {
  static const std::vector<std::string> kPaths = paths("quantumFeatures", kGroupNames);
  return kPaths;
}
const std::vector<std::string>& stem_paths() {
  static const std::vector<std::string> kPaths = paths("groundTruthStems", kStemNames);
  return kPaths;
}

constexpr std::array<std::string_view, 6> kTopFields = {
    "id", "timestamp", "originalAudio", "quantumFeatures", "musicalContext", "metadata"};
constexpr std::array<std::string_view, 3> kAudioFields = {"duration", "sampleRate", "channels"};
constexpr std::array<std::string_view, 3> kContextFields = {"key", "transients", "harmonicContent"};
constexpr std::array<std::string_view, 2> kHarmonicFields = {"dominantFrequencies", "tensionLevel"};
constexpr std::array<std::string_view, 3> kMetadataFields = {"classification", "confidence",
                                                             "processingTime"};
constexpr std::array<std::string_view, 2> kTransientFields = {"time", "strength"};

}  // namespace

std::string_view verdict_name(Verdict verdict) {
  constexpr std::array<std::string_view, kVerdictCount> kNames = {"accept", "accept-with-repair",
                                                                  "reject", "duplicate"};
  return kNames[static_cast<std::size_t>(verdict)];
}

struct SnapshotParser::State {
  od::parser parser;
  KeyStack keys;
  std::string text;  // decoded string values
  std::vector<double> transient_times;
  double duration = 0.0;

  struct Repair {
    std::string_view where;  // constants only
    std::string_view what;
    int64_t count;
  };
  std::vector<Repair> repairs;
  SnapshotRecord* record = nullptr;

  void repair(std::string_view where, std::string_view what, int64_t count = 1) {
    for (Repair& known : repairs) {
      if (known.where == where && known.what == what) {
        known.count += count;
        return;
      }
    }
    repairs.push_back({where, what, count});
  }
  void drop(od::value value, std::string_view where, int depth) {
    validate(value, keys, where, depth, kMaxSnapshotDepth);
    repair(where, kDropped);
  }
  double clamp01(double value, std::string_view where) {
    if (value < 0.0 || value > 1.0) {
      repair(where, "clamped to 0..1");
    }
    return std::clamp(value, 0.0, 1.0);
  }

  void read_root(od::object root);
  void read_id(od::value value);
  void read_audio(od::value value);
  void read_features(od::value value);
  void read_floats(od::value value, const std::string& where, int64_t limit,
                   std::vector<float>& out);
  void read_context(od::value value);
  void read_key(od::value value);
  void read_mode(od::value value);
  void read_bpm(od::value value);
  void read_transients(od::value value);
  void read_harmonic_content(od::value value);
  void read_stems(od::value value);
  void read_corrections(od::value value);
  void read_correction(od::value value);
  std::optional<std::array<double, 2>> read_range(od::value value, std::string_view where);
  void read_metadata(od::value value);
  void derive();
};

void SnapshotParser::State::read_root(od::object root) {
  Required required(kTopFields);
  visit_object(root, keys, "snapshot", [&](std::string_view key, od::value value) {
    const std::optional<int> field = index_of(kTopFields, key);
    if (field) {
      required.saw(static_cast<std::size_t>(*field));
    }
    if (key == "id") {
      read_id(value);
    } else if (key == "timestamp") {
      number(value, "timestamp");
    } else if (key == "originalAudio") {
      read_audio(value);
    } else if (key == "quantumFeatures") {
      read_features(value);
    } else if (key == "musicalContext") {
      read_context(value);
    } else if (key == "groundTruthStems") {
      read_stems(value);
    } else if (key == "userCorrections") {
      read_corrections(value);
    } else if (key == "metadata") {
      read_metadata(value);
    } else {
      drop(value, "snapshot", 1);
    }
  });
  required.check("");
}

void SnapshotParser::State::read_id(od::value value) {
  const std::string_view id = string(value, text, "id");
  bool good = id.size() == 36;
  bool upper = false;
  for (std::size_t i = 0; good && i < id.size(); ++i) {
    const char c = id[i];
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const bool capital = c >= 'A' && c <= 'F';
    good = dash ? c == '-' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || capital;
    upper = upper || capital;
  }
  if (!good) {
    throw Refusal("id is not a UUID of 36 characters");
  }
  record->id = id;
  if (upper) {
    for (char& c : record->id) {
      c = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    repair("id", "made lower-case");
  }
}

void SnapshotParser::State::read_audio(od::value value) {
  Required required(kAudioFields);
  visit_object(
      object(value, "originalAudio"), keys, "originalAudio",
      [&](std::string_view key, od::value field) {
        if (key == "duration") {
          required.saw(0);
          duration = number(field, "originalAudio.duration");
          if (!(duration > 0.0) || duration > kMaxDuration) {
            throw Refusal("originalAudio.duration must be > 0 and at most 86400 s");
          }
        } else if (key == "sampleRate") {
          required.saw(1);
          record->sample_rate = number(field, "originalAudio.sampleRate");
          if (record->sample_rate < kMinSampleRate || record->sample_rate > kMaxSampleRate) {
            throw Refusal("originalAudio.sampleRate must be 3000 to 768000 Hz");
          }
        } else if (key == "channels") {
          required.saw(2);
          const double channels = number(field, "originalAudio.channels");
          if (channels < 1 || channels > kMaxChannels || channels != std::floor(channels)) {
            throw Refusal("originalAudio.channels must be an integer from 1 to 32");
          }
          record->channels = static_cast<int64_t>(channels);
        } else {
          drop(field, "originalAudio", 2);
        }
      });
  required.check("originalAudio");
}

void SnapshotParser::State::read_features(od::value value) {
  Required required(kGroupNames);
  visit_object(object(value, "quantumFeatures"), keys, "quantumFeatures",
               [&](std::string_view key, od::value field) {
                 const std::optional<int> group = index_of(kGroupNames, key);
                 if (!group) {
                   drop(field, "quantumFeatures", 2);
                   return;
                 }
                 const auto g = static_cast<std::size_t>(*group);
                 required.saw(g);
                 read_floats(field, group_paths()[g], kMaxGroupValues, record->groups[g]);
               });
  required.check("quantumFeatures");
  const std::size_t energy = record->groups[static_cast<std::size_t>(FeatureGroup::kEnergy)].size();
  if (energy != 0 && energy != kEnergyValues) {
    throw Refusal("quantumFeatures.energy must hold 4 values or none");
  }
}

void SnapshotParser::State::read_floats(od::value value, const std::string& where, int64_t limit,
                                        std::vector<float>& out) {
  const int64_t nulls = floats(value, where, limit, out);
  if (nulls * 2 > static_cast<int64_t>(out.size())) {
    throw Refusal("{}: more than half of the values are null", where);
  }
  if (nulls > 0) {
    repair(where, "null became 0", nulls);
  }
}

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

void SnapshotParser::State::read_metadata(od::value value) {
  Required required(kMetadataFields);
  visit_object(
      object(value, "metadata"), keys, "metadata", [&](std::string_view key, od::value field) {
        if (key == "classification") {
          required.saw(0);
          const auto known =
              index_of(kClassificationNames, string(field, text, "metadata.classification"));
          record->classification = known.value_or(kUnknownClassification);
          if (!known) {
            repair("metadata.classification", "unknown name, became unknown");
          }
        } else if (key == "confidence") {
          required.saw(1);
          record->confidence = clamp01(number(field, "metadata.confidence"), "metadata.confidence");
        } else if (key == "processingTime") {
          required.saw(2);
          number(field, "metadata.processingTime");
        } else {
          drop(field, "metadata", 2);
        }
      });
  required.check("metadata");
}

// What needs several fields, which may come in any order.
void SnapshotParser::State::derive() {
  record->samples = std::llround(duration * record->sample_rate);
  const bool empty = std::all_of(record->groups.begin(), record->groups.end(),
                                 [](const auto& group) { return group.empty(); });
  if (empty && record->samples > 2048) {
    throw Refusal(
        "quantumFeatures: all six groups are empty though the clip has more than 2048 "
        "samples");
  }
  for (int g = 0; g < kGroupCount; ++g) {
    const auto i = static_cast<std::size_t>(g);
    record->strides[i] =
        known_stride(static_cast<FeatureGroup>(g), record->samples, record->channels,
                     static_cast<int64_t>(record->groups[i].size()));
  }
  const auto outside = std::count_if(transient_times.begin(), transient_times.end(),
                                     [&](double time) { return time < 0.0 || time > duration; });
  if (outside > 0) {
    repair("musicalContext.transients", "time outside the clip, dropped", outside);
  }
  record->context.transient_count = static_cast<int64_t>(transient_times.size()) - outside;
  record->context.transient_density =  // finite as float32 however short the clip
      std::min<double>(static_cast<double>(record->context.transient_count) / duration,
                       std::numeric_limits<float>::max());
}

SnapshotParser::SnapshotParser() : state_(std::make_unique<State>()) {}
SnapshotParser::~SnapshotParser() = default;

Verdict SnapshotParser::parse(std::string_view input, SnapshotRecord& record,
                              std::vector<std::string>& reasons) {
  static_assert(kJsonPadding >= simdjson::SIMDJSON_PADDING);
  State& s = *state_;
  s.record = &record;
  s.repairs.clear();
  s.keys.clear();
  s.transient_times.clear();
  s.duration = 0.0;
  record.clear();
  reasons.clear();
  try {
    if (input.size() > kMaxSnapshotBytes) {
      throw Refusal("larger than 16 MiB");
    }
    if (input.starts_with("\xEF\xBB\xBF")) {
      input.remove_prefix(3);
      s.repair("snapshot", "byte order mark skipped");
    }
    constexpr std::string_view kWhere = "snapshot";
    od::document document =
        take(s.parser.iterate(input.data(), input.size(), input.size() + kJsonPadding), kWhere);
    if (take(document.type(), kWhere) != od::json_type::object) {
      throw Refusal("not one JSON object");
    }
    s.read_root(take(document.get_object(), kWhere));
    require_end(document);
    s.derive();
  } catch (const Refusal& refusal) {
    reasons.assign({refusal.reason()});
    return Verdict::kReject;
  }
  for (const State::Repair& repair : s.repairs) {
    reasons.push_back(repair.count == 1 ? fmt::format("{}: {}", repair.where, repair.what)
                                        : fmt::format("{}: {} ({} times)", repair.where,
                                                      repair.what, repair.count));
  }
  return reasons.empty() ? Verdict::kAccept : Verdict::kAcceptWithRepair;
}

}  // namespace stemfabric
