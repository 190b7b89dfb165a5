#include "trainer/snapshot/snapshot_parser.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "trainer/snapshot/snapshot_parser_state.h"

namespace stemfabric {
namespace {

using namespace strict_json;  // NOLINT(google-build-using-namespace)

constexpr std::array<std::string_view, 6> kTopFields = {
    "id", "timestamp", "originalAudio", "quantumFeatures", "musicalContext", "metadata"};
constexpr std::array<std::string_view, 3> kAudioFields = {"duration", "sampleRate", "channels"};
constexpr std::array<std::string_view, 3> kMetadataFields = {"classification", "confidence",
                                                             "processingTime"};

const std::vector<std::string>& group_paths() {
  static const std::vector<std::string> kPaths = field_paths("quantumFeatures", kGroupNames);
  return kPaths;
}
}  // namespace

std::vector<std::string> field_paths(std::string_view parent,
                                     std::span<const std::string_view> names) {
  std::vector<std::string> result;
  for (const std::string_view name : names) {
    result.push_back(fmt::format("{}.{}", parent, name));
  }
  return result;
}
std::string_view verdict_name(Verdict verdict) {
  constexpr std::array<std::string_view, kVerdictCount> kNames = {"accept", "accept-with-repair",
                                                                  "reject", "duplicate"};
  return kNames[static_cast<std::size_t>(verdict)];
}

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
          if (record->sample_rate < kMinSnapshotRate || record->sample_rate > kMaxSnapshotRate) {
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
