#include <cmath>
#include <limits>

#include "trainer/snapshot/record.h"
#include "trainer/snapshot/snapshot_parser.h"
#include "trainer/snapshot/strict_json-inl.h"

namespace stemfabric {
namespace {

using namespace strict_json;  // NOLINT(google-build-using-namespace)

constexpr std::array<std::string_view, 8> kRecordFields = {
    "id",      "sampleCount",     "sampleRate",     "channels",
    "strides", "quantumFeatures", "musicalContext", "metadata"};
constexpr std::array<std::string_view, 5> kRecordContextFields = {
    "key", "bpm", "transientCount", "transientDensity", "harmonicContent"};
constexpr std::array<std::string_view, 2> kRecordHarmonicFields = {"dominantFrequencies",
                                                                   "tensionLevel"};
constexpr std::array<std::string_view, 2> kRecordMetadataFields = {"classification", "confidence"};

[[noreturn]] void unknown_field(std::string_view where) {
  throw Refusal("{} has a field that sanitised records do not have", where);
}

double number_in(od::value value, std::string_view where, double min, double max) {
  const double result = number(value, where);
  if (!(result >= min && result <= max)) {
    throw Refusal("{} must be {} to {}", where, min, max);
  }
  return result;
}

int64_t integer_in(od::value value, std::string_view where, double min, double max) {
  const double result = number_in(value, where, min, max);
  if (result != std::floor(result)) {
    throw Refusal("{} must be an integer", where);
  }
  return static_cast<int64_t>(result);
}

template <std::size_t N>
int name_in(od::value value, std::string& storage, std::string_view where,
            const std::array<std::string_view, N>& names) {
  const auto index = index_of(names, string(value, storage, where));
  if (!index) {
    throw Refusal("{} is none of the known names", where);
  }
  return *index;
}

}  // namespace

struct RecordReader::State {
  od::parser parser;
  KeyStack keys;
  std::string text;
  SnapshotRecord* record = nullptr;

  void read_root(od::object root);
  void read_field(int field, od::value value);
  void read_id(od::value value);
  void read_strides(od::value value);
  void read_groups(od::value value);
  void read_context(od::value value);
  void read_harmonic_content(od::value value);
  void read_stems(od::value value);
  void read_metadata(od::value value);
  void read_doubles(od::value value, std::string_view where, std::size_t limit,
                    std::vector<double>& out);
  void read_list(od::value value, const std::string& where, int64_t limit,
                 std::vector<float>& out) {
    if (floats(value, where, limit, out) != 0) {
      throw Refusal("{} holds null", where);
    }
  }
};

void RecordReader::State::read_root(od::object root) {
  Required required(kRecordFields);
  visit_object(root, keys, "record", [&](std::string_view key, od::value value) {
    if (const auto field = index_of(kRecordFields, key)) {
      required.saw(static_cast<std::size_t>(*field));
      read_field(*field, value);
    } else if (key == "groundTruthFeatures") {
      read_stems(value);
    } else if (key == "correctionFeatures") {
      read_doubles(value, key, kMaxSnapshotBytes, record->corrections);
    } else {
      unknown_field("record");
    }
  });
  required.check("");
  for (std::size_t g = 0; g < kGroupCount; ++g) {
    const int64_t stride =
        known_stride(static_cast<FeatureGroup>(g), record->samples, record->channels,
                     static_cast<int64_t>(record->groups[g].size()));
    if (record->strides[g] != stride) {
      throw Refusal("strides.{} contradicts sampleCount, channels and the length of the array",
                    kGroupNames[g]);
    }
  }
  if (record->corrections.size() % kCorrectionValues != 0) {
    throw Refusal("correctionFeatures must hold five values per correction");
  }
}

void RecordReader::State::read_field(int field, od::value value) {
  switch (field) {
    case 0:
      return read_id(value);
    case 1:
      record->samples = integer_in(value, "sampleCount", 0, kMaxDuration * kMaxSnapshotRate);
      return;
    case 2:
      record->sample_rate = number_in(value, "sampleRate", kMinSnapshotRate, kMaxSnapshotRate);
      return;
    case 3:
      record->channels = integer_in(value, "channels", 1, kMaxChannels);
      return;
    case 4:
      return read_strides(value);
    case 5:
      return read_groups(value);
    case 6:
      return read_context(value);
    default:
      return read_metadata(value);
  }
}

void RecordReader::State::read_id(od::value value) {
  const std::string_view id = string(value, text, "id");
  const bool hex = id.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  if (id.size() != 64 || !hex) {
    throw Refusal("id is not a hash of 64 hex digits; run `stemfabric sanitize` first");
  }
  record->id = id;
}

void RecordReader::State::read_strides(od::value value) {
  Required required(kGroupNames);
  visit_object(
      object(value, "strides"), keys, "strides", [&](std::string_view key, od::value field) {
        const auto group = index_of(kGroupNames, key);
        if (!group) {
          unknown_field("strides");
        }
        required.saw(static_cast<std::size_t>(*group));
        record->strides[static_cast<std::size_t>(*group)] = integer_in(field, "strides", 0, 1e12);
      });
  required.check("strides");
}

void RecordReader::State::read_groups(od::value value) {
  Required required(kGroupNames);
  visit_object(object(value, "quantumFeatures"), keys, "quantumFeatures",
               [&](std::string_view key, od::value field) {
                 const auto group = index_of(kGroupNames, key);
                 if (!group) {
                   unknown_field("quantumFeatures");
                 }
                 const auto g = static_cast<std::size_t>(*group);
                 required.saw(g);
                 static const std::array<std::string, kGroupCount> kPaths = [] {
                   std::array<std::string, kGroupCount> result;
                   for (std::size_t i = 0; i < kGroupCount; ++i) {
                     result[i] = fmt::format("quantumFeatures.{}", kGroupNames[i]);
                   }
                   return result;
                 }();
                 read_list(field, kPaths[g], kMaxGroupValues, record->groups[g]);
               });
  required.check("quantumFeatures");
  const std::size_t energy = record->groups[static_cast<std::size_t>(FeatureGroup::kEnergy)].size();
  if (energy != 0 && energy != kEnergyValues) {
    throw Refusal("quantumFeatures.energy must hold 4 values or none");
  }
}

void RecordReader::State::read_context(od::value value) {
  MusicalContext& context = record->context;
  Required required(kRecordContextFields);
  visit_object(
      object(value, "musicalContext"), keys, "musicalContext",
      [&](std::string_view key, od::value field) {
        if (key == "mode") {
          constexpr std::array<std::string_view, 2> kModes = {"minor", "major"};
          context.mode = name_in(field, text, "musicalContext.mode", kModes) == 1 ? Mode::kMajor
                                                                                  : Mode::kMinor;
          return;
        }
        const auto index = index_of(kRecordContextFields, key);
        if (!index) {
          unknown_field("musicalContext");
        }
        required.saw(static_cast<std::size_t>(*index));
        if (key == "key") {
          context.key = name_in(field, text, "musicalContext.key", kKeyNames);
        } else if (key == "bpm") {
          if (!is_null(field, "musicalContext.bpm")) {
            context.bpm = number_in(field, "musicalContext.bpm", 0, 1e308);
          }
        } else if (key == "transientCount") {
          context.transient_count = integer_in(field, "musicalContext.transientCount", 0, 1e12);
        } else if (key == "transientDensity") {
          context.transient_density = number_in(field, "musicalContext.transientDensity", 0,
                                                std::numeric_limits<float>::max());
        } else {
          read_harmonic_content(field);
        }
      });
  required.check("musicalContext");
}

void RecordReader::State::read_harmonic_content(od::value value) {
  constexpr std::string_view kWhere = "musicalContext.harmonicContent";
  Required required(kRecordHarmonicFields);
  visit_object(object(value, kWhere), keys, kWhere, [&](std::string_view key, od::value field) {
    const auto index = index_of(kRecordHarmonicFields, key);
    if (!index) {
      unknown_field(kWhere);
    }
    required.saw(static_cast<std::size_t>(*index));
    if (*index == 0) {
      read_doubles(field, "musicalContext.harmonicContent.dominantFrequencies",
                   kDominantFrequencies, record->context.dominant_frequencies);
    } else {
      record->context.tension =
          number_in(field, "musicalContext.harmonicContent.tensionLevel", 0, 1);
    }
  });
  required.check(kWhere);
}

void RecordReader::State::read_doubles(od::value value, std::string_view where, std::size_t limit,
                                       std::vector<double>& out) {
  out.clear();
  for (auto result : array(value, where)) {
    od::value element = take(std::move(result), where);
    if (out.size() == limit) {
      throw Refusal("{} holds more than {} values", where, limit);
    }
    out.push_back(number(element, where));
  }
}

void RecordReader::State::read_stems(od::value value) {
  constexpr std::string_view kWhere = "groundTruthFeatures";
  record->has_ground_truth = true;
  visit_object(object(value, kWhere), keys, kWhere, [&](std::string_view key, od::value field) {
    const auto stem = stem_index(key);
    if (!stem) {
      unknown_field(kWhere);
    }
    const auto s = static_cast<std::size_t>(*stem);
    record->has_stem[s] = true;
    read_list(field, fmt::format("groundTruthFeatures.{}", key), kMaxStemValues, record->stems[s]);
  });
}

void RecordReader::State::read_metadata(od::value value) {
  Required required(kRecordMetadataFields);
  visit_object(object(value, "metadata"), keys, "metadata",
               [&](std::string_view key, od::value field) {
                 const auto index = index_of(kRecordMetadataFields, key);
                 if (!index) {
                   unknown_field("metadata");
                 }
                 required.saw(static_cast<std::size_t>(*index));
                 if (*index == 0) {
                   record->classification =
                       name_in(field, text, "metadata.classification", kClassificationNames);
                 } else {
                   record->confidence = number_in(field, "metadata.confidence", 0, 1);
                 }
               });
  required.check("metadata");
}

RecordReader::RecordReader() : state_(std::make_unique<State>()) {}
RecordReader::~RecordReader() = default;

void RecordReader::read(std::string_view line, const std::string& where, SnapshotRecord& record) {
  State& s = *state_;
  s.record = &record;
  s.keys.clear();
  record.clear();
  try {
    od::document document =
        take(s.parser.iterate(line.data(), line.size(), line.size() + kJsonPadding), "record");
    if (take(document.type(), "record") != od::json_type::object) {
      throw Refusal("not a JSON object");
    }
    s.read_root(take(document.get_object(), "record"));
    require_end(document);
  } catch (const Refusal& refusal) {
    throw InputError("{}: not a sanitised record: {}", where, refusal.reason());
  }
}

}  // namespace stemfabric
