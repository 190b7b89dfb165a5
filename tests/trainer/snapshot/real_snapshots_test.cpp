// The snapshots of tests/data, against the numbers and verdicts of their indexes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/trainer/snapshot/snapshot_files.h"
#include "trainer/snapshot/feature_vector.h"
#include "trainer/snapshot/layout.h"
#include "trainer/snapshot/sanitize.h"

namespace stemfabric {
namespace {

using test::Json;
using test::parse;
using test::Parsed;

TEST(RealSnapshots, GiveTheNumbersOfTheirIndex) {
  const Json index = test::read_ordered_json(test::data_dir() / "snapshots_index.json");
  ASSERT_EQ(index["snapshots"].size(), 8U);
  for (const Json& entry : index["snapshots"]) {
    const std::string file = entry["file"];
    SCOPED_TRACE(file);
    const Parsed parsed = parse(read_text_file(test::data_dir() / "snapshots" / file));
    ASSERT_EQ(parsed.verdict, Verdict::kAccept) << parsed.reason();
    const SnapshotRecord& record = parsed.record;
    EXPECT_EQ(record.samples, entry["samples"].get<int64_t>());
    EXPECT_EQ(record.sample_rate, entry["sampleRate"].get<double>());
    EXPECT_EQ(record.channels, entry["channels"].get<int64_t>());
    EXPECT_EQ(kKeyNames[static_cast<std::size_t>(record.context.key)], entry["exported"]["key"]);
    EXPECT_EQ(record.context.bpm.has_value(), !entry["exported"]["bpm"].is_null());
    EXPECT_EQ(kClassificationNames[static_cast<std::size_t>(record.classification)],
              entry["exported"]["classification"]);
    for (std::size_t g = 0; g < kGroupCount; ++g) {
      const Json& layout = entry["layout"][std::string(kGroupNames[g])];
      EXPECT_EQ(raw_length(static_cast<FeatureGroup>(g), record.samples, record.channels),
                layout["raw"].get<int64_t>());
      EXPECT_EQ(record.strides[g], layout["stride"].get<int64_t>());
      EXPECT_EQ(record.groups[g].size(), entry["expected"]["group_lengths"][g].get<std::size_t>());
    }

    const Json& expected = entry["expected"];
    EXPECT_EQ(record.context.transient_count, expected["transientCount"].get<int64_t>());
    EXPECT_NEAR(record.context.transient_density, expected["transientDensity"].get<double>(), 1e-9);
    std::vector<float> vector;
    append_feature_vector(record, vector);
    ASSERT_EQ(vector.size(), expected["vector_length"].get<std::size_t>());
    double sum = 0.0;
    double magnitude = 0.0;
    for (const float value : vector) {
      sum += static_cast<double>(value);
      magnitude += std::abs(static_cast<double>(value));
    }
    const double total = expected["vector_abs_sum_float64"];
    EXPECT_NEAR(sum, expected["vector_sum_float64"].get<double>(), 1e-12 * total);
    EXPECT_NEAR(magnitude, total, 1e-12 * total);
    for (std::size_t i = 0; i < kContextValues; ++i) {
      EXPECT_EQ(vector[vector.size() - kContextValues + i],
                expected["context_values"][i].get<float>());
    }
    const Json corrections = expected["correctionFeatures"];
    EXPECT_EQ(record.corrections.size(), corrections.is_null() ? 0 : corrections.size());
    for (std::size_t i = 0; i < record.corrections.size(); ++i) {
      EXPECT_NEAR(record.corrections[i], corrections[i].get<double>(), 1e-15);
    }
    for (std::size_t s = 0; s < kStemCount; ++s) {
      const std::string stem(kStemNames[s]);
      ASSERT_EQ(record.has_stem[s], expected["truth_stems"].contains(stem));
      if (record.has_stem[s]) {
        double stem_sum = 0.0;
        for (const float value : record.stems[s]) {
          stem_sum += static_cast<double>(value);
        }
        EXPECT_EQ(record.stems[s].size(),
                  expected["truth_stems"][stem]["length"].get<std::size_t>());
        EXPECT_NEAR(stem_sum, expected["truth_stems"][stem]["sum_float64"].get<double>(), 1e-9);
      }
    }
  }
}

TEST(BadSnapshots, GetTheVerdictsOfTheirIndex) {
  const std::filesystem::path folder = test::data_dir() / "bad_snapshots";
  const Json index = test::read_ordered_json(folder / "index.json");
  ASSERT_EQ(index["files"].size(), 15U);
  for (const Json& entry : index["files"]) {
    const std::string file = entry["file"];
    SCOPED_TRACE(file);
    const Parsed parsed = parse(read_text_file(folder / file));
    EXPECT_EQ(verdict_name(parsed.verdict), entry["verdict"].get<std::string>()) << parsed.reason();
    EXPECT_EQ(parsed.reasons.empty(), parsed.verdict == Verdict::kAccept);
    const Json expect = entry.value("expect", Json::object());
    for (const auto& [what, value] : expect.items()) {
      if (what == "spectral[5:7]") {
        EXPECT_EQ(parsed.record.groups[0][5], 0.0F);
        EXPECT_EQ(parsed.record.groups[0][6], 0.0F);
        EXPECT_NE(parsed.record.groups[0][7], 0.0F);
      } else if (what == "correctionFeatures") {
        ASSERT_EQ(parsed.record.corrections.size(), value.size());
        for (std::size_t i = 0; i < value.size(); ++i) {
          EXPECT_NEAR(parsed.record.corrections[i], value[i].get<double>(), 1e-9);
        }
      } else if (what == "key") {
        EXPECT_EQ(kKeyNames[static_cast<std::size_t>(parsed.record.context.key)], value);
      } else if (what == "key_feature") {
        EXPECT_NEAR(context_values(parsed.record.context)[0], value.get<double>(), 1e-7);
      } else {
        ADD_FAILURE() << "the index expects " << what << ", which this test does not know";
      }
    }
  }
}

// No text of a dropped field in output, report or captured log.
TEST(BadSnapshots, LeakNothing) {
  const std::filesystem::path folder = test::data_dir() / "bad_snapshots";
  test::TempDir dir;
  testing::internal::CaptureStderr();
  sanitize_snapshots({.input = folder, .output = dir / "o.jsonl", .report = dir / "r.json"});
  const std::string all = testing::internal::GetCapturedStderr() + read_text_file(dir / "o.jsonl") +
                          read_text_file(dir / "r.json");
  int checked = 0;
  const Json index = test::read_ordered_json(folder / "index.json");
  for (const Json& entry : index["files"]) {
    for (const std::string secret : entry.value("must_not_leak", Json::array())) {
      EXPECT_EQ(all.find(secret), std::string::npos) << secret;
      ++checked;
    }
  }
  EXPECT_EQ(checked, 3);
  // Ids are hashed: none of the original ones is in the output.
  EXPECT_EQ(all.find(test::control()["id"].get<std::string>()), std::string::npos);
}

}  // namespace
}  // namespace stemfabric
