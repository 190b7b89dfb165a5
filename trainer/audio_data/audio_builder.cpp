#include "trainer/audio_data/audio_builder.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "runtime/device/device.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/audio_manifest.h"
#include "trainer/audio_data/folder_listing.h"
#include "trainer/audio_data/stem_map.h"
#include "trainer/audio_data/track_cache.h"
#include "trainer/audio_data/track_maker.h"
#include "trainer/data/dataset_target.h"
#include "trainer/data/ordered_pipeline.h"
#include "trainer/data/split.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

struct WorkItem {
  const TrackFiles* files = nullptr;
  fs::path file;
  MadeTrack made;
  TrackIdentity identity;
  bool reused = false;
};

// A usable track that is to be given a side.
struct Candidate {
  fs::path file;  // as it was made
  ManifestTrack track;
  bool by_hash = false;
  double position = 0;  // of the split
  AudioSide side = kTrainSide;
};

// "Some song.safetensors". What a file name cannot hold is replaced, and a hash of the id added.
std::string file_name(const std::string& id) {
  constexpr std::size_t kLongest = 150;
  std::string name = utf8_prefix(id, kLongest);
  std::ranges::replace(name, '/', '_');
  if (name.front() == '.') {
    name.front() = '_';
  }
  return name == id ? id + ".safetensors"
                    : name + "-" + sha256_hex(id).substr(0, 8) + ".safetensors";
}

class Builder {
 public:
  Builder(const AudioDatasetOptions& options, const AudioRoot& found, AudioAudit& audit)
      : options_(options),
        found_(found),
        map_(make_stem_map(options.config.data.stem_map, found, options.config.audio.sample_rate)),
        maker_(found.root, map_, options.config.audio.sample_rate),
        cache_(options.output_dir),
        audit_(audit) {
    audit_ = {.root = found.root.empty() ? "." : found.root.string(),
              .layout = std::string(track_layout_name(found.layout)),
              .sample_rate = options.config.audio.sample_rate,
              .tracks = {}};
  }

  // Writes the tracks and the manifest into a folder that nobody else sees.
  AudioDatasetSummary fill(const fs::path& folder);

 private:
  void work(WorkItem& item) const;
  void make_all(const fs::path& folder);
  void consume(WorkItem& item);
  void decide_sides();
  void require_training() const;
  AudioManifest place(const fs::path& folder);

  const AudioDatasetOptions& options_;
  const AudioRoot& found_;
  StemMap map_;
  TrackMaker maker_;
  TrackCache cache_;
  AudioAudit& audit_;
  std::vector<Candidate> candidates_;
  std::map<std::string, std::string> by_content_;  // of usable tracks: id by content
  int64_t reused_ = 0;
  bool moved_one_ = false;
};

void Builder::work(WorkItem& item) const {
  const TrackFiles& files = *item.files;
  item.made = {};
  item.reused = false;
  try {
    item.identity = maker_.identify(files);
    if (const auto old = cache_.take(item.identity.key, item.file)) {
      item.made = {old->info, old->audit};
      item.made.info.id = item.made.audit.id = files.id;
      item.reused = true;
    } else {
      item.made = maker_.make(files, item.file);
    }
  } catch (const InputError& error) {
    item.made.audit.id = files.id;
    item.made.audit.problems.push_back({true, error.what()});
  }
  item.made.audit.split = files.split;
}

void Builder::make_all(const fs::path& folder) {
  std::size_t next = 0;
  const auto total = static_cast<int64_t>(found_.tracks.size());
  const int threads = options_.threads > 0 ? options_.threads : available_cores();
  Progress progress("Audio data set", "tracks", total);
  OrderedPipeline<WorkItem> pipeline(static_cast<int>(std::min<int64_t>(threads, total)));
  pipeline.run(
      [&](WorkItem& item) {
        if (next == found_.tracks.size()) {
          return false;
        }
        item.file = folder / fmt::format("track-{}.safetensors", next);
        item.files = &found_.tracks[next++];
        return true;
      },
      [&](WorkItem& item, int) { work(item); },
      [&](WorkItem& item) {
        consume(item);
        progress.advance(1, item.files->id);
      });
}

void Builder::consume(WorkItem& item) {
  TrackAudit& audit = item.made.audit;
  if (audit.usable) {
    const auto [same, fresh] = by_content_.try_emplace(item.identity.content, audit.id);
    if (!fresh) {
      audit.usable = false;
      audit.problems.push_back(
          {true, fmt::format("holds the same audio as the track {}", same->second)});
      fs::remove(item.file);
    }
  }
  if (audit.usable) {
    const auto seed = static_cast<uint64_t>(options_.config.data.split_seed);
    candidates_.push_back({.file = item.file,
                           .track = {item.made.info, item.identity.key, audit},
                           .by_hash = audit.split == TrackSplit::kByHash,
                           .position = split_position(audit.id, seed)});
    reused_ += item.reused ? 1 : 0;
  }
  audit_.tracks.push_back(std::move(audit));
}

// The layout's side, or by hash. If that would leave training or validation empty, the track by
// hash that is nearest to that side moves, as in data sets of snapshots.
void Builder::decide_sides() {
  std::array<int64_t, kAudioSides> counts{};
  Candidate* lowest = nullptr;
  Candidate* highest = nullptr;
  for (Candidate& candidate : candidates_) {
    const TrackSplit split = candidate.track.audit.split;
    const bool trains =
        split == TrackSplit::kTrain ||
        (candidate.by_hash && candidate.position < options_.config.data.train_ratio);
    candidate.side = split == TrackSplit::kTest ? kTestSide : trains ? kTrainSide : kValidationSide;
    ++counts[candidate.side];
    if (candidate.by_hash) {
      lowest = lowest == nullptr || candidate.position < lowest->position ? &candidate : lowest;
      highest = highest == nullptr || candidate.position > highest->position ? &candidate : highest;
    }
  }
  const bool lacks_train = counts[kTrainSide] == 0;
  const bool lacks_validation = counts[kValidationSide] == 0 && counts[kTrainSide] >= 2;
  Candidate* moved = lacks_train ? lowest : lacks_validation ? highest : nullptr;
  if (moved == nullptr) {
    return;
  }
  log_warning("the split by hash leaves no track for {}; {} changes sides",
              lacks_train ? "training" : "validation", moved->track.info.id);
  moved->side = lacks_train ? kTrainSide : kValidationSide;
  moved_one_ = true;
}

void Builder::require_training() const {
  if (std::ranges::any_of(candidates_, [](const Candidate& c) { return c.side == kTrainSide; })) {
    return;
  }
  constexpr int kShown = 3;
  std::string reasons;
  int shown = 0;
  for (const TrackAudit& track : audit_.tracks) {
    for (const AudioProblem& problem : track.problems) {
      if (problem.fatal && shown++ < kShown) {
        reasons += fmt::format("; {}: {}", track.id, problem.text);
      }
    }
  }
  throw InputError("{}: none of its {} tracks can be used for training{}{}; nothing was written",
                   found_.root.string(), found_.tracks.size(), reasons,
                   shown > kShown ? fmt::format("; and {} more", shown - kShown) : "");
}

// Moves the tracks to their sides.
AudioManifest Builder::place(const fs::path& folder) {
  AudioManifest manifest{.run_id = options_.run_label,
                         .root = audit_.root,
                         .layout = audit_.layout,
                         .sample_rate = audit_.sample_rate,
                         .preset = map_.preset,
                         .stems = {},
                         .missing = options_.config.data.stem_map.missing,
                         .train_ratio = options_.config.data.train_ratio,
                         .split_seed = options_.config.data.split_seed,
                         .moved_one = moved_one_,
                         .tracks = {},
                         .left_out = {}};
  for (std::size_t s = 0; s < kStemCount; ++s) {
    manifest.stems[s] = map_.entry(s);
  }
  for (Candidate& candidate : candidates_) {
    AudioTrackInfo& info = candidate.track.info;
    const char* side = kAudioSideNames[candidate.side];
    info.file = fmt::format("{}/{}", side, file_name(info.id));
    make_directories(folder / side);
    SF_CHECK(!fs::exists(folder / info.file), "{}", info.file);
    fs::rename(candidate.file, folder / info.file);
    manifest.tracks[candidate.side].push_back(std::move(candidate.track));
  }
  for (const TrackAudit& track : audit_.tracks) {
    if (!track.usable) {
      manifest.left_out.push_back(track);
    }
  }
  return manifest;
}

AudioDatasetSummary Builder::fill(const fs::path& folder) {
  make_all(folder);
  decide_sides();
  constexpr std::array<TrackSplit, kAudioSides> kSplits = {
      TrackSplit::kTrain, TrackSplit::kValidation, TrackSplit::kTest};
  auto candidate = candidates_.begin();
  for (TrackAudit& track : audit_.tracks) {  // the usable ones come in the same order
    if (track.usable) {
      track.split = kSplits[(candidate++)->side];
    }
  }
  require_training();
  const AudioManifest manifest = place(folder);
  write_text_file(folder / "manifest.json", audio_manifest_text(manifest));
  return {.folder = {},
          .hash = manifest.hash(),
          .train = static_cast<int64_t>(manifest.tracks[kTrainSide].size()),
          .validation = static_cast<int64_t>(manifest.tracks[kValidationSide].size()),
          .test = static_cast<int64_t>(manifest.tracks[kTestSide].size()),
          .left_out = static_cast<int64_t>(manifest.left_out.size()),
          .reused = reused_,
          .moved_one = moved_one_};
}

}  // namespace

AudioDatasetSummary build_audio_dataset(const AudioDatasetOptions& options, AudioAudit& audit) {
  check_run_label(options.run_label);
  const AudioRoot found = find_audio_tracks(options.root, options.layout);
  Builder builder(options, found, audit);
  AudioDatasetSummary summary;
  const fs::path folder =
      write_dataset_folder(options.output_dir, options.run_label, options.overwrite,
                           [&](const fs::path& partial) { summary = builder.fill(partial); });
  summary.folder = folder;
  return summary;
}

}  // namespace stemfabric
