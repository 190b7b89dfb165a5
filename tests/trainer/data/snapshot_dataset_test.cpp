#include "trainer/data/snapshot_dataset.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "tests/trainer/snapshot/snapshot_files.h"
#include "trainer/data/dataset.h"
#include "trainer/data/shard.h"
#include "trainer/data/split.h"
#include "trainer/snapshot/record.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::Json;
using ::testing::HasSubstr;

// n records: the shipped snapshots in turn under new ids.
std::string records(int n, int first = 0) {
  static const std::vector<SnapshotRecord> kSnapshots = [] {
    std::vector<SnapshotRecord> result;
    for (const char* file : {"s08_orbit_park_clip.json", "s14_quiet_room.json", "s05_lanterns.json",
                             "s05_lanterns_mono.json"}) {
      result.push_back(test::parse(read_text_file(test::data_dir() / "snapshots" / file)).record);
    }
    return result;
  }();
  std::string text;
  for (int i = first; i < first + n; ++i) {
    SnapshotRecord record = kSnapshots[static_cast<std::size_t>(i) % kSnapshots.size()];
    record.id = sha256_hex(fmt::format("record {}", i));
    append_record(record, text);
  }
  return text;
}

class SnapshotDataset : public testing::Test {
 protected:
  SnapshotDataset() {
    set_log_level(LogLevel::kError);
    options_.input = dir_ / "records.jsonl";
    options_.output_dir = dir_ / "sets";
    options_.run_label = "one";
    options_.threads = 2;
  }
  ~SnapshotDataset() override { set_log_level(LogLevel::kInfo); }

  SnapshotDatasetSummary build(const std::string& text) {
    write_text_file(options_.input, text);
    return build_snapshot_dataset(options_);
  }
  std::string build_error(const std::string& text) {
    try {
      build(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  fs::path folder() const { return options_.output_dir / options_.run_label; }
  static std::set<std::string> ids(const std::optional<Dataset>& split) {
    std::set<std::string> result;
    for (int64_t i = 0; split && i < split->size(); ++i) {
      result.insert(split->id(i));
    }
    return result;
  }

  test::TempDir dir_;
  SnapshotDatasetOptions options_;
};

TEST_F(SnapshotDataset, ReadsBackWhatTheTokenizerMade) {
  options_.shard_records = 3;  // whole and cut shards
  const SnapshotDatasetSummary summary = build(records(20));
  EXPECT_EQ(summary.records, 20);
  EXPECT_EQ(summary.without_stems, 5);  // the mono mix
  EXPECT_EQ(summary.train + summary.validation, 15);
  EXPECT_FALSE(summary.moved_one);
  const DatasetFolder set = open_dataset(folder());
  EXPECT_EQ(set.hash, summary.hash);
  EXPECT_EQ(set.train->size(), summary.train);
  EXPECT_EQ(set.validation->size(), summary.validation);
  ASSERT_TRUE(set.statistics);
  EXPECT_EQ(set.correction_weight, 1.0);

  SnapshotTokenizer tokenizer(options_.tokens);
  RecordReader reader;
  std::istringstream input(records(20));
  std::map<std::string, TokenSample> expected;
  for (std::string line; std::getline(input, line);) {
    const std::size_t size = line.size();
    line.resize(size + kJsonPadding);
    SnapshotRecord record;
    reader.read(std::string_view(line).substr(0, size), "test", record);
    tokenizer.tokenize(record, expected[record.id]);
  }
  for (const Dataset* split : {&*set.train, &*set.validation}) {
    Batch batch(1, split->tokens(), split->features(), split->outputs());
    for (int64_t i = 0; i < split->size(); ++i) {
      split->gather(std::vector<int64_t>{i}, batch);
      const TokenSample& sample = expected.at(split->id(i));
      ASSERT_TRUE(std::equal(sample.inputs.begin(), sample.inputs.end(), batch.inputs.as<float>()));
      ASSERT_TRUE(
          std::equal(sample.targets.begin(), sample.targets.end(), batch.targets.as<float>()));
      ASSERT_TRUE(std::equal(sample.input_mask.begin(), sample.input_mask.end(),
                             batch.input_mask.as<uint8_t>()));
      ASSERT_TRUE(std::equal(sample.target_mask.begin(), sample.target_mask.end(),
                             batch.target_mask.as<uint8_t>()));
      ASSERT_TRUE(std::equal(sample.stem_weight.begin(), sample.stem_weight.end(),
                             batch.stem_weight.as<float>()));
      EXPECT_EQ(split_position(split->id(i), 0) < 0.8, split == &*set.train);
    }
  }
}

TEST_F(SnapshotDataset, ManifestTellsWhatIsInside) {
  options_.seed = 5;
  const SnapshotDatasetSummary summary = build(records(12));
  const Json manifest = test::read_ordered_json(folder() / "manifest.json");
  EXPECT_EQ(manifest["runId"], "one");
  EXPECT_EQ(manifest["hash"], summary.hash);
  EXPECT_EQ(manifest["counts"]["totalRecords"], 12);
  EXPECT_EQ(manifest["counts"]["train"], summary.train);
  EXPECT_EQ(manifest["counts"]["withoutStems"], 3);
  EXPECT_EQ(manifest["classificationDistribution"].dump(), R"({"twotrack":9,"full":3})");
  EXPECT_EQ(manifest["split"]["seed"], 5);
  EXPECT_EQ(manifest["shape"]["features"], 148);
  EXPECT_EQ(manifest["features"]["names"].size(), 148U);
  EXPECT_EQ(manifest["targets"]["kind"], "samples");
  EXPECT_EQ(manifest["input"]["mean"].size(), 148U);
  // Vocals are in all nine pairs, drums not in the three of the quiet room.
  const Json& presence = manifest["stemPresence"];
  EXPECT_EQ(presence["train"]["vocals"].get<int>() + presence["validation"]["vocals"].get<int>(),
            9);
  EXPECT_EQ(presence["train"]["drums"].get<int>() + presence["validation"]["drums"].get<int>(), 6);
}

// Statistics, counts, the correction weight: nothing in the manifest can change unseen.
TEST_F(SnapshotDataset, EveryByteOfTheManifestCounts) {
  build(records(8));
  const fs::path file = folder() / "manifest.json";
  const std::string whole = read_text_file(file);
  const auto error_with = [&](const std::string& text) -> std::string {
    write_text_file(file, text);
    try {
      open_dataset(folder());
    } catch (const InputError& error) {
      return error.what();
    }
    return "accepted";
  };
  const std::size_t key = whole.find("\"contentsSha256\"");
  ASSERT_NE(key, std::string::npos);
  for (std::size_t at = 0; at < whole.size(); at += 97) {
    if (at >= key && at < key + 16) {
      continue;  // another name for the entry leaves what the manifest says as it is
    }
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 1);
    EXPECT_THAT(error_with(flipped), HasSubstr(file.string())) << at;
  }
  for (const char* number : {"\"totalRecords\": 8", "\"correctionWeight\": 1.0"}) {
    std::string changed = whole;
    const std::size_t place = changed.find(number);
    ASSERT_NE(place, std::string::npos) << number;
    changed[place + std::strlen(number) - 1] = '7';
    EXPECT_THAT(error_with(changed), HasSubstr("was changed or damaged")) << number;
  }
  // One that another program wrote need not have the entry.
  Json foreign = Json::parse(whole);
  foreign.erase("contentsSha256");
  foreign["createdAt"] = "by hand";
  EXPECT_EQ(error_with(foreign.dump()), "accepted");
  EXPECT_EQ(error_with(whole), "accepted");
  fs::remove_all(folder() / "validation");
  EXPECT_THAT(error_with(whole), HasSubstr("shards.validation"));
}

TEST_F(SnapshotDataset, SameForAnyNumberOfThreads) {
  options_.threads = 1;
  const std::string hash = build(records(60)).hash;
  const Json input = test::read_ordered_json(folder() / "manifest.json")["input"];
  for (const int threads : {2, 5}) {
    options_.threads = threads;
    options_.run_label = fmt::format("threads{}", threads);
    EXPECT_EQ(build(records(60)).hash, hash);
    EXPECT_EQ(test::read_ordered_json(folder() / "manifest.json")["input"], input);
  }
}

TEST_F(SnapshotDataset, RecordsKeepTheirSideAsDataGrow) {
  build(records(30));
  const DatasetFolder small = open_dataset(folder());
  options_.run_label = "two";
  build(records(60, 30) + records(30));  // more, and in another order
  const DatasetFolder large = open_dataset(folder());
  const std::set<std::string> train = ids(large.train);
  const std::set<std::string> validation = ids(large.validation);
  for (const std::string& id : ids(small.train)) {
    EXPECT_TRUE(train.contains(id));
  }
  for (const std::string& id : ids(small.validation)) {
    EXPECT_TRUE(validation.contains(id));
  }
  // Another seed, another split; the ratio holds roughly over many ids.
  int below = 0;
  int moved = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::string id = fmt::format("id {}", i);
    below += split_position(id, 0) < 0.8 ? 1 : 0;
    moved += (split_position(id, 0) < 0.8) != (split_position(id, 1) < 0.8) ? 1 : 0;
  }
  EXPECT_NEAR(below, 8000, 200);
  EXPECT_NEAR(moved, 3200, 250);
}

TEST_F(SnapshotDataset, SmallSetsHaveBothSides) {
  for (const double ratio : {0.0, 1.0}) {
    options_.run_label = fmt::format("ratio{}", ratio);
    options_.train_ratio = ratio;
    const SnapshotDatasetSummary summary = build(records(7));  // six pairs
    EXPECT_TRUE(summary.moved_one);
    EXPECT_EQ(summary.train, ratio == 0.0 ? 1 : 5);
    EXPECT_EQ(summary.validation, ratio == 0.0 ? 5 : 1);
    const DatasetFolder set = open_dataset(folder());
    EXPECT_EQ(set.hash, summary.hash);
    // The one that moved is the nearest to the other side.
    const Dataset& lonely = ratio == 0.0 ? *set.train : *set.validation;
    for (const std::string& id : ids(ratio == 0.0 ? set.validation : set.train)) {
      EXPECT_EQ(split_position(lonely.id(0), 0) < split_position(id, 0), ratio == 0.0);
    }
  }
  // One pair alone trains, whatever its hash says; there is no validation.
  options_.run_label = "single";
  options_.train_ratio = 0.0;
  EXPECT_EQ(build(records(1)).train, 1);
  EXPECT_FALSE(open_dataset(folder()).validation);
}

TEST_F(SnapshotDataset, LayoutsAndTargets) {
  options_.tokens.layout = TokenLayout::kPacked;
  EXPECT_EQ(build(records(8)).outputs, 32);
  EXPECT_EQ(open_dataset(folder()).train->features(), 256);
  options_.run_label = "bands";
  options_.tokens = {.targets = TargetKind::kBands};
  EXPECT_THAT(build_error(records(8)), HasSubstr("use --targets samples"));
  EXPECT_FALSE(fs::exists(folder()));
}

// The root mean square of a stem's targets in the training split, as a power of two.
TEST_F(SnapshotDataset, BandsTellTheirSize) {
  std::string text;
  std::istringstream lines(records(8));
  for (std::string line; std::getline(lines, line);) {
    Json record = Json::parse(line);
    const Json spectral = record["quantumFeatures"]["spectral"];
    Json& stems = record["groundTruthFeatures"] = Json::object();
    for (std::size_t s = 0; s + 1 < kStemCount; ++s) {  // nothing is known of the last
      for (std::size_t i = 0; i < spectral.size(); i += 2) {
        const double size = 3e-4 * std::pow(10.0, static_cast<double>(s));
        stems[std::string(kStemNames[s])].push_back(s == 4 ? 0.0
                                                           : size * spectral[i].get<double>());
      }
    }
    text += record.dump() + "\n";
  }
  options_.tokens = {.targets = TargetKind::kBands};
  build(text);
  const DatasetFolder set = open_dataset(folder());
  const Dataset& train = *set.train;
  Batch batch(train.size(), train.tokens(), train.features(), train.outputs());
  std::vector<int64_t> all(static_cast<std::size_t>(train.size()));
  std::iota(all.begin(), all.end(), 0);
  train.gather(all, batch);
  const int64_t of_stem = train.tokens() * train.outputs();
  for (std::size_t s = 0; s < kStemCount; ++s) {
    double sum = 0;
    double count = 0;
    for (int64_t i = 0; i < train.size() * of_stem; ++i) {
      const int64_t at =
          (i / of_stem * kStemCount + static_cast<int64_t>(s)) * of_stem + i % of_stem;
      if (batch.target_mask.as<uint8_t>()[at] != 0) {
        const auto value = static_cast<double>(batch.targets.as<float>()[at]);
        sum += value * value;
        count += 1;
      }
    }
    if (s >= 4) {  // silent or unknown
      EXPECT_EQ(set.target_scale[s], 1.0F);
      continue;
    }
    const double size = std::sqrt(sum / count) / static_cast<double>(set.target_scale[s]);
    EXPECT_GE(size, std::sqrt(0.5));
    EXPECT_LE(size, std::sqrt(2.0));
  }
  // Training's view of it.
  options_.run_label = "again";
  build(text);
  DatasetFolder scaled = open_dataset(folder());
  const std::array<float, kStemCount> factors{2, 0.5, 4, 8, 1, 0.25};
  scaled.train->scale_targets(factors);
  Batch changed(train.size(), train.tokens(), train.features(), train.outputs());
  scaled.train->gather(all, changed);
  for (int64_t i = 0; i < batch.targets.elements(); ++i) {
    ASSERT_EQ(
        changed.targets.as<float>()[i],
        batch.targets.as<float>()[i] * factors[static_cast<std::size_t>(i / of_stem % kStemCount)]);
  }
}

TEST_F(SnapshotDataset, RefusesBadInputAndWritesNothing) {
  EXPECT_THAT(build_error(""), HasSubstr("none of its 0 records"));
  EXPECT_THAT(build_error(records(3, 3).substr(0, 100)), HasSubstr("records.jsonl, line 1"));
  EXPECT_THAT(build_error(records(2) + "\n{\"id\":7}\n" + records(2, 2)),
              HasSubstr("records.jsonl, line 4: not a sanitised record: id"));
  EXPECT_THAT(build_error(test::control().dump()), HasSubstr("sanitize"));
  EXPECT_THAT(build_error(records(1, 3)), HasSubstr("1 have no ground-truth stem"));
  EXPECT_FALSE(fs::exists(folder()));
  EXPECT_TRUE(fs::is_empty(options_.output_dir));  // no temporary folders either
  options_.input = dir_ / "absent.jsonl";
  EXPECT_THROW(build_snapshot_dataset(options_), InputError);
}

TEST_F(SnapshotDataset, TargetFolder) {
  const std::string first = build(records(8)).hash;
  EXPECT_THAT(build_error(records(12)), HasSubstr("--overwrite"));
  EXPECT_EQ(open_dataset(folder()).hash, first);
  options_.overwrite = true;
  EXPECT_THAT(build_error("{}"), HasSubstr("line 1"));  // the old one stays
  EXPECT_EQ(open_dataset(folder()).hash, first);
  const std::string second = build(records(12)).hash;
  EXPECT_NE(second, first);
  EXPECT_EQ(open_dataset(folder()).hash, second);
  EXPECT_EQ(std::distance(fs::directory_iterator(options_.output_dir), {}), 1);
  write_text_file(folder() / "thesis.tex", "precious");
  EXPECT_THAT(build_error(records(8)), HasSubstr("thesis.tex"));
  EXPECT_TRUE(fs::exists(folder() / "thesis.tex"));

  options_.run_label = "empty";
  options_.overwrite = false;
  fs::create_directory(folder());
  EXPECT_EQ(build(records(8)).hash, first);
  for (const char* label : {"", ".", "..", "a/b", "/tmp/x"}) {
    options_.run_label = label;
    EXPECT_THAT(build_error(records(8)), HasSubstr("run label"));
  }
  options_.run_label = "file";
  write_text_file(folder(), "a file");
  EXPECT_THAT(build_error(records(8)), HasSubstr("not a folder"));
  options_.run_label = "x";
  options_.train_ratio = 1.5;
  EXPECT_THAT(build_error(records(8)), HasSubstr("train ratio"));
  options_.train_ratio = 0.5;
  options_.output_dir = "/proc/nowhere";
  EXPECT_THROW(build(records(8)), IoError);
}

}  // namespace
}  // namespace stemfabric
