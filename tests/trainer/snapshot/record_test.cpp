#include "trainer/snapshot/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "runtime/core/check.h"
#include "tests/trainer/snapshot/snapshot_files.h"

namespace stemfabric {
namespace {

using test::Json;
using ::testing::HasSubstr;

SnapshotRecord read(std::string line) {
  const std::size_t size = line.size();
  line.resize(size + kJsonPadding);
  RecordReader reader;
  SnapshotRecord record;
  reader.read(std::string_view(line).substr(0, size), "records.jsonl, line 7", record);
  return record;
}

std::string read_error(const std::string& line) {
  try {
    read(line);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

SnapshotRecord sanitized_control() {
  SnapshotRecord record = test::parse(test::control().dump()).record;
  record.id = sha256_hex(record.id);
  return record;
}

std::string written(const SnapshotRecord& record) {
  std::string line;
  append_record(record, line);
  return line;
}

TEST(SanitizedRecord, RoundTripsEveryField) {
  const Json index = test::read_ordered_json(test::data_dir() / "snapshots_index.json");
  for (const Json& entry : index["snapshots"]) {
    const std::string file = entry["file"];
    SnapshotRecord record =
        test::parse(read_text_file(test::data_dir() / "snapshots" / file)).record;
    record.id = sha256_hex(record.id);
    const std::string line = written(record);
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
    const SnapshotRecord back = read(line);
    EXPECT_EQ(back.id, record.id);
    EXPECT_EQ(back.samples, record.samples);
    EXPECT_EQ(back.sample_rate, record.sample_rate);
    EXPECT_EQ(back.channels, record.channels);
    EXPECT_EQ(back.strides, record.strides);
    EXPECT_EQ(back.groups, record.groups);
    EXPECT_EQ(back.has_stem, record.has_stem);
    EXPECT_EQ(back.has_ground_truth, record.has_ground_truth);
    EXPECT_EQ(back.stems, record.stems);
    EXPECT_EQ(back.corrections, record.corrections);
    EXPECT_EQ(back.context.key, record.context.key);
    EXPECT_EQ(back.context.mode, record.context.mode);
    EXPECT_EQ(back.context.bpm, record.context.bpm);
    EXPECT_EQ(back.context.transient_count, record.context.transient_count);
    EXPECT_EQ(back.context.transient_density, record.context.transient_density);
    EXPECT_EQ(back.context.dominant_frequencies, record.context.dominant_frequencies);
    EXPECT_EQ(back.context.tension, record.context.tension);
    EXPECT_EQ(back.classification, record.classification);
    EXPECT_EQ(back.confidence, record.confidence);
    EXPECT_EQ(written(back), line);
  }
}

// Exactly the documented fields, nothing else of the snapshot.
TEST(SanitizedRecord, HoldsTheDocumentedFieldsOnly) {
  SnapshotRecord record = sanitized_control();
  record.context.mode = Mode::kMinor;
  const Json json = Json::parse(written(record));
  const auto keys = [](const Json& object) {
    std::vector<std::string> names;
    for (const auto& [key, value] : object.items()) {
      names.push_back(key);
    }
    return names;
  };
  EXPECT_THAT(keys(json),
              testing::ElementsAre("id", "sampleCount", "sampleRate", "channels", "strides",
                                   "quantumFeatures", "musicalContext", "groundTruthFeatures",
                                   "correctionFeatures", "metadata"));
  EXPECT_THAT(keys(json["musicalContext"]),
              testing::ElementsAre("key", "mode", "bpm", "transientCount", "transientDensity",
                                   "harmonicContent"));
  EXPECT_THAT(keys(json["metadata"]), testing::ElementsAre("classification", "confidence"));
}

TEST(SanitizedRecord, Float32RoundTripsExactly) {
  std::mt19937 random(7);
  SnapshotRecord record = sanitized_control();
  record.samples = 44100;
  for (int round = 0; round < 300; ++round) {
    for (auto& group : record.groups) {
      group.resize(&group == &record.groups.back() ? 4 : 1000);
      for (float& value : group) {
        do {
          value = std::bit_cast<float>(static_cast<uint32_t>(random()));
        } while (!std::isfinite(value));
      }
    }
    for (std::size_t g = 0; g < kGroupCount; ++g) {
      record.strides[g] =
          known_stride(static_cast<FeatureGroup>(g), record.samples, record.channels,
                       static_cast<int64_t>(record.groups[g].size()));
    }
    const SnapshotRecord back = read(written(record));
    for (std::size_t g = 0; g < kGroupCount; ++g) {
      for (std::size_t i = 0; i < record.groups[g].size(); ++i) {
        ASSERT_EQ(std::bit_cast<uint32_t>(back.groups[g][i]),
                  std::bit_cast<uint32_t>(record.groups[g][i]));
      }
    }
  }
}

TEST(SanitizedRecord, RefusesAnythingElse) {
  const Json good = Json::parse(written(sanitized_control()));
  const auto error_with = [&](const char* pointer, const Json& value) {
    Json changed = good;
    changed[Json::json_pointer(pointer)] = value;
    const std::string error = read_error(changed.dump());
    EXPECT_THAT(error, HasSubstr("records.jsonl, line 7: not a sanitised record: "));
    return error;
  };
  EXPECT_EQ(read_error(good.dump()), "no error");
  EXPECT_THAT(error_with("/id", test::control()["id"]), HasSubstr("id is not a hash"));
  EXPECT_THAT(error_with("/secret", 1), HasSubstr("record has a field"));
  EXPECT_THAT(error_with("/strides/spectral", 2), HasSubstr("strides.spectral contradicts"));
  EXPECT_THAT(error_with("/sampleCount", 1.5), HasSubstr("sampleCount must be an integer"));
  EXPECT_THAT(error_with("/sampleCount", -1), HasSubstr("sampleCount must be 0 to"));
  EXPECT_THAT(error_with("/quantumFeatures/temporal/1", nullptr),
              HasSubstr("quantumFeatures.temporal holds null"));
  EXPECT_THAT(error_with("/quantumFeatures/energy", Json::array({1, 2})), HasSubstr("energy"));
  EXPECT_THAT(error_with("/groundTruthFeatures/piano", Json::array()),
              HasSubstr("groundTruthFeatures has a field"));
  EXPECT_THAT(error_with("/groundTruthFeatures/sub", std::vector<double>(501)),
              HasSubstr("more than 500"));
  EXPECT_THAT(error_with("/correctionFeatures", Json::array({1, 2})), HasSubstr("five values"));
  EXPECT_THAT(error_with("/musicalContext/key", "Bb"), HasSubstr("musicalContext.key"));
  EXPECT_THAT(error_with("/musicalContext/mode", "dorian"), HasSubstr("musicalContext.mode"));
  EXPECT_THAT(error_with("/metadata/confidence", 2), HasSubstr("metadata.confidence"));
  EXPECT_THAT(read_error(test::control().dump()), HasSubstr("not a sanitised record"));
  EXPECT_THAT(read_error("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(read_error(good.dump() + "{}"), HasSubstr("more text"));
  for (const auto& [key, value] : good.items()) {
    if (key != "groundTruthFeatures" && key != "correctionFeatures") {
      Json changed = good;
      changed.erase(key);
      EXPECT_THAT(read_error(changed.dump()), HasSubstr(key + " is missing"));
    }
  }
}

}  // namespace
}  // namespace stemfabric
