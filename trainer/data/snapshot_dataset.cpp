#include "trainer/data/snapshot_dataset.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <future>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "runtime/device/device.h"
#include "runtime/io/file.h"
#include "runtime/io/self_hash.h"
#include "trainer/data/dataset_target.h"
#include "trainer/data/input_statistics.h"
#include "trainer/data/ordered_pipeline.h"
#include "trainer/data/shard_writer.h"
#include "trainer/data/split.h"
#include "trainer/snapshot/input_files.h"
#include "trainer/snapshot/record.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kBlockBytes = 1 << 20;
constexpr std::size_t kMaxRecordBytes = 16 << 20;

enum Side : std::size_t { kTrain, kValidation, kSides };
constexpr std::array<const char*, kSides> kSideNames = {"train", "validation"};

// One record as a worker leaves it.
struct Pair {
  std::string id;
  int classification = kUnknownClassification;
  bool has_stems = false;
  double position = 0.0;  // of the split
  TokenSample sample;
  FeatureMoments moments;  // of this sample
  TargetSquares squares;   // likewise
  bool usable() const {
    for (const bool stem : sample.supervised) {
      if (stem) {
        return true;
      }
    }
    return false;
  }
};

struct WorkItem {
  LineBlocks::Block block;
  std::vector<Pair> pairs;  // only the first `size` are in use
  std::size_t size = 0;
};

class PairMaker {
 public:
  explicit PairMaker(const SnapshotDatasetOptions& options)
      : options_(options), tokenizer_(options.tokens) {}
  const SnapshotTokenizer& tokenizer() const { return tokenizer_; }

  void work(WorkItem& item) {
    item.size = 0;
    if (item.block.overlong) {
      throw InputError("{}, line {}: longer than 16 MiB, not a sanitised record",
                       options_.input.string(), item.block.first_line);
    }
    const std::string_view text = item.block.text.view();
    int64_t line = item.block.first_line;
    for (std::size_t begin = 0; begin < text.size(); ++line) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view one = text.substr(begin, end - begin);
      if (one.find_first_not_of(" \t\r") != std::string_view::npos) {
        if (item.size == item.pairs.size()) {
          item.pairs.emplace_back();
        }
        make(one, line, item.pairs[item.size++]);
      }
      begin = end + 1;
    }
  }

 private:
  void make(std::string_view text, int64_t line, Pair& pair) {
    reader_.read(text, fmt::format("{}, line {}", options_.input.string(), line), record_);
    pair.id = record_.id;
    pair.classification = record_.classification;
    pair.has_stems = false;
    for (const auto& stem : record_.stems) {
      pair.has_stems = pair.has_stems || !stem.empty();
    }
    pair.sample.supervised.fill(false);
    if (!pair.has_stems) {
      return;
    }
    pair.position = split_position(pair.id, options_.seed);
    tokenizer_.tokenize(record_, pair.sample);
    if (pair.moments.features() == 0) {
      pair.moments = FeatureMoments(tokenizer_.features());
    }
    pair.moments.set(tokenizer_, pair.sample);
    pair.squares = TargetSquares(pair.sample);
  }

  const SnapshotDatasetOptions& options_;
  RecordReader reader_;
  SnapshotRecord record_;
  SnapshotTokenizer tokenizer_;
};

// Everything that one reading of the input finds out.
struct Tally {
  int64_t records = 0;
  int64_t without_stems = 0;
  int64_t without_targets = 0;
  int64_t dropped_values = 0;
  std::array<int64_t, kClassificationNames.size()> classes{};
  std::array<std::array<int64_t, kStemCount>, kSides> stems{};
  std::array<std::vector<ShardWriter::Written>, kSides> shards;
  std::array<int64_t, kSides> pairs{};
  // The pair nearest to the other side: the one that moves if that side stays empty.
  std::string lowest_id;
  std::string highest_id;
  double lowest = 2.0;
  double highest = -1.0;
};

class Builder {
 public:
  explicit Builder(const SnapshotDatasetOptions& options)
      : options_(options),
        threads_(options.threads > 0 ? options.threads : available_cores()),
        shape_(options.tokens) {}

  const SnapshotTokenizer& shape() const { return shape_; }

  // Writes both splits and the manifest into a folder that nobody else sees.
  SnapshotDatasetSummary fill(const fs::path& folder) {
    Tally tally = read_all(folder, "");
    const int64_t pairs = tally.pairs[kTrain] + tally.pairs[kValidation];
    if (pairs == 0) {
      throw InputError(
          "{}: none of its {} records makes a training pair ({} have no ground-truth stem, the "
          "stems of {} fit no place{}); nothing was written",
          options_.input.string(), tally.records, tally.without_stems, tally.without_targets,
          options_.tokens.targets == TargetKind::kBands ? ": they are no band energies, use "
                                                          "--targets samples"
                                                        : "");
    }
    // A split by hash may leave a side of a small set empty. Then the pair nearest to that side
    // moves, and only it; with more records the hash decides again.
    const bool lacks_train = tally.pairs[kTrain] == 0;
    const bool lacks_validation = tally.pairs[kValidation] == 0 && pairs >= 2;
    const std::string moved = lacks_train        ? tally.lowest_id
                              : lacks_validation ? tally.highest_id
                                                 : "";
    if (!moved.empty()) {
      log_warning("the split by hash leaves no record for {}; one record changes sides",
                  lacks_train ? "training" : "validation");
      for (const char* side : kSideNames) {
        fs::remove_all(folder / side);
      }
      tally = read_all(folder, moved);
    }
    return finish(folder, tally, !moved.empty());
  }

 private:
  Tally read_all(const fs::path& folder, const std::string& moved);
  void consume(Pair& pair, const std::string& moved, Tally& tally,
               std::array<std::unique_ptr<ShardWriter>, kSides>& writers);
  SnapshotDatasetSummary finish(const fs::path& folder, const Tally& tally, bool moved);
  Json manifest(const SnapshotDatasetSummary& summary, const Tally& tally) const;

  const SnapshotDatasetOptions& options_;
  int threads_;
  SnapshotTokenizer shape_;
  FeatureMoments moments_;
  TargetSquares squares_;
};

Tally Builder::read_all(const fs::path& folder, const std::string& moved) {
  Tally tally;
  moments_ = FeatureMoments(shape_.features());
  std::array<std::unique_ptr<ShardWriter>, kSides> writers;
  for (std::size_t side = 0; side < kSides; ++side) {
    make_directories(folder / kSideNames[side]);
    writers[side] =
        std::make_unique<ShardWriter>(folder / kSideNames[side], shape_.tokens(), shape_.features(),
                                      shape_.outputs(), options_.shard_records);
  }
  std::vector<std::unique_ptr<PairMaker>> workers;
  for (int i = 0; i < threads_; ++i) {
    workers.push_back(std::make_unique<PairMaker>(options_));
  }
  LineBlocks blocks(options_.input, kBlockBytes, kMaxRecordBytes);
  Progress progress("Data set", "MB", static_cast<int64_t>(fs::file_size(options_.input) >> 20));
  uint64_t bytes = 0;
  OrderedPipeline<WorkItem> pipeline(threads_);
  pipeline.run(
      [&](WorkItem& item) { return blocks.next(item.block); },
      [&](WorkItem& item, int worker) { workers[static_cast<std::size_t>(worker)]->work(item); },
      [&](WorkItem& item) {
        for (std::size_t i = 0; i < item.size; ++i) {
          consume(item.pairs[i], moved, tally, writers);
        }
        bytes += item.block.file_bytes;
        progress.set_done(static_cast<int64_t>(bytes >> 20),
                          fmt::format("{} records", tally.records));
      });
  // The last shards of both sides are completed and hashed at the same time.
  std::future<std::vector<ShardWriter::Written>> validation;
  if (threads_ > 1) {
    validation = std::async(std::launch::async, [&] { return writers[kValidation]->finish(); });
  }
  tally.shards[kTrain] = writers[kTrain]->finish();
  tally.shards[kValidation] = threads_ > 1 ? validation.get() : writers[kValidation]->finish();
  for (std::size_t side = 0; side < kSides; ++side) {
    tally.pairs[side] = writers[side]->samples();
    if (tally.shards[side].empty()) {
      fs::remove(folder / kSideNames[side]);
    }
  }
  return tally;
}

void Builder::consume(Pair& pair, const std::string& moved, Tally& tally,
                      std::array<std::unique_ptr<ShardWriter>, kSides>& writers) {
  ++tally.records;
  ++tally.classes[static_cast<std::size_t>(pair.classification)];
  if (!pair.has_stems) {
    ++tally.without_stems;
    return;
  }
  tally.dropped_values += pair.sample.dropped_values;
  if (!pair.usable()) {
    ++tally.without_targets;
    return;
  }
  bool training = pair.position < options_.train_ratio;
  if (pair.id == moved) {
    training = !training;
  }
  const Side side = training ? kTrain : kValidation;
  if (pair.position < tally.lowest) {
    tally.lowest = pair.position;
    tally.lowest_id = pair.id;
  }
  if (pair.position > tally.highest) {
    tally.highest = pair.position;
    tally.highest_id = pair.id;
  }
  for (std::size_t stem = 0; stem < kStemCount; ++stem) {
    tally.stems[side][stem] += pair.sample.supervised[stem] ? 1 : 0;
  }
  if (training) {
    moments_.merge(pair.moments);
    squares_.merge(pair.squares);
  }
  writers[side]->add(pair.id, pair.sample);
}

SnapshotDatasetSummary Builder::finish(const fs::path& folder, const Tally& tally, bool moved) {
  SnapshotDatasetSummary summary;
  summary.records = tally.records;
  summary.train = tally.pairs[kTrain];
  summary.validation = tally.pairs[kValidation];
  summary.without_stems = tally.without_stems;
  summary.without_targets = tally.without_targets;
  summary.dropped_values = tally.dropped_values;
  summary.moved_one = moved;
  summary.tokens = shape_.tokens();
  summary.features = shape_.features();
  summary.outputs = shape_.outputs();
  std::array<std::string, kSides> hashes;
  for (std::size_t side = 0; side < kSides; ++side) {
    std::vector<Dataset::ShardHash> shards;
    for (const ShardWriter::Written& shard : tally.shards[side]) {
      shards.push_back({shard.file, shard.sha256});
    }
    hashes[side] = shards.empty() ? "" : split_hash(shards);
  }
  summary.hash = dataset_hash(hashes[kTrain], hashes[kValidation]);
  write_text_file(folder / "manifest.json", seal_text(manifest(summary, tally).dump(1) + "\n"));
  return summary;
}

Json Builder::manifest(const SnapshotDatasetSummary& summary, const Tally& tally) const {
  const TokenOptions& tokens = options_.tokens;
  const bool grid = tokens.layout == TokenLayout::kTimeGrid;
  Json classes = Json::object();
  for (std::size_t i = 0; i < tally.classes.size(); ++i) {
    if (tally.classes[i] > 0) {
      classes[std::string(kClassificationNames[i])] = tally.classes[i];
    }
  }
  Json presence;
  Json shards;
  for (std::size_t side = 0; side < kSides; ++side) {
    for (std::size_t stem = 0; stem < kStemCount; ++stem) {
      presence[kSideNames[side]][std::string(kStemNames[stem])] = tally.stems[side][stem];
    }
    shards[kSideNames[side]] = Json::array();
    for (const ShardWriter::Written& shard : tally.shards[side]) {
      shards[kSideNames[side]].push_back(
          {{"file", shard.file}, {"records", shard.samples}, {"sha256", shard.sha256}});
    }
  }
  const InputStatistics statistics = moments_.statistics(shape_.scaled());
  const std::time_t now = std::time(nullptr);
  return {
      {"format", "stemfabric-dataset"},
      {"version", 1},
      {"runId", options_.run_label},
      {"createdAt", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now))},
      {"hash", summary.hash},
      {"counts",
       {{"totalRecords", summary.records},
        {"train", summary.train},
        {"validation", summary.validation},
        {"withoutStems", summary.without_stems},
        {"withoutTargets", summary.without_targets},
        {"droppedTargetValues", summary.dropped_values}}},
      {"classificationDistribution", classes},
      {"stemPresence", presence},
      {"split",
       {{"trainRatio", options_.train_ratio},
        {"seed", options_.seed},
        {"movedOneRecord", summary.moved_one}}},
      {"shape",
       {{"tokens", summary.tokens},
        {"features", summary.features},
        {"stems", kStemCount},
        {"outputs", summary.outputs}}},
      {"features", {{"layout", grid ? "time_grid" : "packed"}, {"names", shape_.feature_names()}}},
      {"targets",
       tokens.targets == TargetKind::kSamples
           ? Json{{"kind", "samples"},
                  {"note", "decimated waveform samples: no feature of a snapshot determines them"}}
           : Json{{"kind", "bands"},
                  {"note", "energies at the places of the mixture's spectral values"},
                  {"scale", squares_.scale()}}},
      {"correctionWeight", tokens.correction_weight},
      {"input", {{"mean", statistics.mean}, {"scale", statistics.scale}}},
      {"shards", shards},
      {kSelfHashKey, self_hash_placeholder()},
  };
}

void check_options(const SnapshotDatasetOptions& options) {
  check_run_label(options.run_label);
  if (!(options.train_ratio >= 0.0 && options.train_ratio <= 1.0)) {
    throw UsageError("the train ratio must be 0 to 1, not {}", options.train_ratio);
  }
  if (options.shard_records < 1 || options.shard_records > 1'000'000) {
    throw UsageError("records per shard must be 1 to 1000000, not {}", options.shard_records);
  }
  if (!(options.tokens.correction_weight >= 0.0) ||
      !std::isfinite(options.tokens.correction_weight)) {
    throw UsageError("the correction weight must be a number >= 0");
  }
  if (!fs::is_regular_file(options.input)) {
    throw InputError("{}: {}; give the records that `stemfabric sanitize` wrote (*.jsonl)",
                     options.input.string(),
                     fs::exists(options.input) ? "is not a file" : "no such file");
  }
}

}  // namespace

SnapshotDatasetSummary build_snapshot_dataset(const SnapshotDatasetOptions& options) {
  check_options(options);
  Builder builder(options);
  SnapshotDatasetSummary summary;
  const fs::path folder =
      write_dataset_folder(options.output_dir, options.run_label, options.overwrite,
                           [&](const fs::path& partial) { summary = builder.fill(partial); });
  summary.folder = folder;
  return summary;
}

}  // namespace stemfabric
