#include "trainer/audio_data/track_layout.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/csv.h"
#include "trainer/audio_data/folder_listing.h"
#include "trainer/audio_data/moisesdb.h"
#include "trainer/config/suggest.h"
#include "trainer/stems.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::pair<TrackLayout, std::string_view>, 6> kLayoutNames = {{
    {TrackLayout::kAuto, "auto"},
    {TrackLayout::kMusdb18, "musdb18"},
    {TrackLayout::kMoisesdb, "moisesdb"},
    {TrackLayout::kTracks, "tracks"},
    {TrackLayout::kStems, "stems"},
    {TrackLayout::kCsv, "csv"},
}};

constexpr std::array<std::string_view, 14> kMusdbValidation = {
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
};

bool is_mixture(std::string_view name) { return name == "mixture" || name == "mix"; }
// Sums of other sources that some releases carry along: no sources of their own.
bool is_derived(std::string_view name) {
  return name == "accompaniment" || name == "linear_mixture";
}

// Names by which a folder of sources is told from a folder of tracks.
bool is_known_source(std::string_view name) {
  static const std::set<std::string_view> kKnown = {
      "other",         "guitar", "piano",         "percussion", "other_keys",
      "bowed_strings", "wind",   "other_plucked", "keys",       "strings"};
  return stem_index(name) || is_mixture(name) || is_derived(name) || kKnown.contains(name);
}

std::optional<TrackSplit> split_named(std::string_view name) {
  if (name == "train" || name == "training") {
    return TrackSplit::kTrain;
  }
  if (name == "validation" || name == "valid" || name == "val") {
    return TrackSplit::kValidation;
  }
  return name == "test" ? std::optional(TrackSplit::kTest) : std::nullopt;
}

// Adds a file to the track's sources, or as its mixture.
void add_file(TrackFiles& track, const std::string& name, const fs::path& file) {
  if (is_derived(name)) {
    return;
  }
  const auto same = std::ranges::find(track.sources, name, &AudioSource::name);
  const fs::path& before = is_mixture(name)              ? track.mixture
                           : same != track.sources.end() ? same->files.front()
                                                         : fs::path();
  if (!before.empty()) {
    throw InputError("{}: track {} has {} already, in {}; keep one of the two", file.string(),
                     track.id, name, before.string());
  }
  if (is_mixture(name)) {
    track.mixture = file;
  } else {
    track.sources.push_back({name, {file}});
  }
}

// One folder of tracks, of the layouts that have a folder per track or per source.
std::vector<TrackFiles> tracks_of(const fs::path& folder, TrackLayout layout) {
  const FolderListing listing = list_folder(folder);
  if (layout == TrackLayout::kMoisesdb) {
    return find_moisesdb_tracks(listing);
  }
  std::map<std::string, TrackFiles> tracks;
  for (const fs::path& inner : listing.folders) {
    for (const fs::path& file : list_folder(inner).audio_files) {
      const bool by_stem = layout == TrackLayout::kStems;
      const std::string id = by_stem ? file.stem().string() : inner.filename().string();
      const std::string source = by_stem ? inner.filename().string() : file.stem().string();
      TrackFiles& track = tracks[id];
      track.id = id;
      add_file(track, source, file);
    }
  }
  std::vector<TrackFiles> result;
  for (auto& [id, track] : tracks) {
    result.push_back(std::move(track));
  }
  return result;
}

// What the folders inside a folder of tracks look like.
struct Evidence {
  int64_t folders = 0;
  int64_t with_audio = 0;     // hold audio files
  int64_t with_sources = 0;   // hold folders with audio files
  int64_t known_folders = 0;  // are named like a source
  int64_t known_files = 0;    // files named like a source
  int64_t files = 0;
  std::string example;  // "Some song/vocals.wav"
};

Evidence look_at(const FolderListing& listing) {
  Evidence seen;
  for (const fs::path& inner : listing.folders) {
    const FolderListing inside = list_folder(inner);
    ++seen.folders;
    seen.with_audio += inside.audio_files.empty() ? 0 : 1;
    seen.known_folders += is_known_source(inner.filename().string()) ? 1 : 0;
    for (const fs::path& file : inside.audio_files) {
      ++seen.files;
      seen.known_files += is_known_source(file.stem().string()) ? 1 : 0;
      seen.example = (inner.filename() / file.filename()).string();
    }
    seen.with_sources += std::ranges::any_of(inside.folders,
                                             [](const fs::path& source) {
                                               return !list_folder(source).audio_files.empty();
                                             })
                             ? 1
                             : 0;
  }
  return seen;
}

// The layout of a folder without split folders; kAuto if it shows none.
TrackLayout layout_of(const FolderListing& listing, Evidence& seen) {
  seen = look_at(listing);
  if (seen.with_sources > seen.with_audio) {
    return TrackLayout::kMoisesdb;
  }
  if (seen.known_files * 2 > seen.files) {
    return TrackLayout::kTracks;
  }
  return seen.files > 0 && seen.known_folders * 2 > seen.folders ? TrackLayout::kStems
                                                                 : TrackLayout::kAuto;
}

[[noreturn]] void refuse_unknown(const fs::path& root, const FolderListing& listing,
                                 const Evidence& seen) {
  if (std::ranges::any_of(listing.audio_files, [](const fs::path& file) {
        return is_known_source(file.stem().string());
      })) {
    throw InputError("{}: holds the files of one track{}; give the folder above it", root.string(),
                     first_names(listing.audio_files));
  }
  const std::string found =
      fmt::format("it holds {} folders{} and {} audio files; in the folders are {} audio files{}",
                  listing.folders.size(), first_names(listing.folders), listing.audio_files.size(),
                  seen.files, seen.example.empty() ? "" : ", such as " + seen.example);
  throw InputError(
      "{}: shows no layout of multi-track audio: {}. Expected a folder per track with a file per "
      "source (vocals.wav, drums.wav, …), a folder per source with a file per track, train/ and "
      "test/ of MUSDB18, folders of MoisesDB, or a table tracks.csv. If the names of the sources "
      "are your own, say which layout it is: --layout tracks or --layout stems",
      root.string(), found);
}

// train/, validation/, test/ in a folder; none of them if it is split otherwise.
std::vector<std::pair<TrackSplit, fs::path>> split_folders(const FolderListing& listing) {
  std::vector<std::pair<TrackSplit, fs::path>> splits;
  for (const fs::path& folder : listing.folders) {
    if (const auto split = split_named(folder.filename().string())) {
      splits.emplace_back(*split, folder);
    }
  }
  const bool train = std::ranges::any_of(
      splits, [](const auto& split) { return split.first != TrackSplit::kTest; });
  return train ? splits : std::vector<std::pair<TrackSplit, fs::path>>();
}

bool looks_like_musdb(const std::vector<TrackFiles>& tracks) {
  const auto& t = tracks;
  return !t.empty() && std::ranges::all_of(t, [](const TrackFiles& track) {
    const auto has = [&](std::string_view name) {
      return std::ranges::find(track.sources, name, &AudioSource::name) != track.sources.end();
    };
    return track.sources.size() == 4 && has("vocals") && has("drums") && has("bass") &&
           has("other") && !track.mixture.empty();
  });
}

AudioRoot find_in_splits(const fs::path& root,
                         const std::vector<std::pair<TrackSplit, fs::path>>& splits,
                         TrackLayout layout) {
  AudioRoot found{root, layout, {}};
  bool validation = false;
  for (const auto& [split, folder] : splits) {
    TrackLayout inner = layout == TrackLayout::kMusdb18 ? TrackLayout::kTracks : layout;
    const FolderListing listing = list_folder(folder);
    Evidence seen;
    if (inner == TrackLayout::kAuto && (inner = layout_of(listing, seen)) == TrackLayout::kAuto) {
      refuse_unknown(folder, listing, seen);
    }
    if (layout == TrackLayout::kAuto) {
      found.layout = inner;
    }
    validation = validation || split == TrackSplit::kValidation;
    for (TrackFiles& track : tracks_of(folder, inner)) {
      track.split = split;
      found.tracks.push_back(std::move(track));
    }
  }
  if (layout == TrackLayout::kMusdb18 ||
      (found.layout == TrackLayout::kTracks && looks_like_musdb(found.tracks))) {
    found.layout = TrackLayout::kMusdb18;
  }
  if (validation) {
    return found;
  }
  // No validation folder: the usual one of MUSDB18, else the hash decides within train/.
  const bool usual = found.layout == TrackLayout::kMusdb18 &&
                     std::ranges::any_of(found.tracks, [](const TrackFiles& track) {
                       return is_musdb_validation_track(track.id);
                     });
  for (TrackFiles& track : found.tracks) {
    if (track.split == TrackSplit::kTrain) {
      track.split = !usual                                ? TrackSplit::kByHash
                    : is_musdb_validation_track(track.id) ? TrackSplit::kValidation
                                                          : TrackSplit::kTrain;
    }
  }
  return found;
}

AudioRoot find_in_table(const fs::path& file) {
  const std::vector<CsvRow> rows = parse_csv(read_text_file(file, 64ULL << 20), file);
  AudioRoot found{file.parent_path(), TrackLayout::kCsv, {}};
  if (rows.empty()) {
    throw InputError("{}: is empty; expected a first line such as track,split,vocals,drums",
                     file.string());
  }
  const std::vector<std::string>& columns = rows[0].fields;
  if (columns.size() < 2 || columns[0] != "track" ||
      std::set(columns.begin(), columns.end()).size() != columns.size()) {
    throw InputError(
        "{}, line {}: the first line must name the columns, each once: track, split (if any), and "
        "one per source; it begins with '{}'",
        file.string(), rows[0].line, columns[0].substr(0, 60));
  }
  for (std::size_t r = 1; r < rows.size(); ++r) {
    const CsvRow& row = rows[r];
    if (row.fields.size() != columns.size()) {
      throw InputError("{}, line {}: has {} fields, the first line {}", file.string(), row.line,
                       row.fields.size(), columns.size());
    }
    TrackFiles track;
    track.id = row.fields[0];
    for (std::size_t c = 1; c < columns.size(); ++c) {
      const std::string& field = row.fields[c];
      if (columns[c] == "split" && !field.empty()) {
        const auto split = split_named(field);
        if (!split) {
          throw InputError("{}, line {}: split '{}' is none of train, validation and test",
                           file.string(), row.line, field.substr(0, 60));
        }
        track.split = *split;
      } else if (!field.empty()) {
        add_file(track, columns[c], found.root / field);
      }
    }
    found.tracks.push_back(std::move(track));
  }
  return found;
}

// Ids are unique and can be written to JSON; every track has a file; all in one order.
void tidy(AudioRoot& found) {
  std::erase_if(found.tracks, [](const TrackFiles& track) {
    return track.sources.empty() && track.mixture.empty();
  });
  std::ranges::sort(found.tracks, {}, &TrackFiles::id);
  for (std::size_t t = 0; t < found.tracks.size(); ++t) {
    const TrackFiles& track = found.tracks[t];
    require_plain_name(track.id, found.root);
    if (t > 0 && track.id == found.tracks[t - 1].id) {
      throw InputError("{}: there are two tracks of the name '{}'; rename one", found.root.string(),
                       track.id);
    }
    for (AudioSource& source : found.tracks[t].sources) {
      require_plain_name(source.name, found.root);
    }
    std::ranges::sort(found.tracks[t].sources, {}, &AudioSource::name);
  }
  if (found.tracks.empty()) {
    throw InputError("{}: holds no track with an audio file ({})", found.root.string(),
                     kAudioExtensions);
  }
}

AudioRoot find(const fs::path& root, TrackLayout layout) {
  if (fs::is_regular_file(root)) {
    if (has_audio_extension(root)) {
      throw InputError("{}: is one audio file; give a folder of multi-track audio", root.string());
    }
    if (layout != TrackLayout::kAuto && layout != TrackLayout::kCsv) {
      throw InputError("{}: is a file; --layout {} wants a folder", root.string(),
                       track_layout_name(layout));
    }
    return find_in_table(root);
  }
  if (!fs::is_directory(root)) {
    throw InputError("{}: {}; give a folder of multi-track audio, or a table (*.csv)",
                     root.string(), fs::exists(root) ? "is no folder" : "no such folder");
  }
  const fs::path table = root / "tracks.csv";
  if (layout == TrackLayout::kCsv || (layout == TrackLayout::kAuto && fs::exists(table))) {
    return find_in_table(table);
  }
  const FolderListing listing = list_folder(root);
  const auto splits = split_folders(listing);
  if (!splits.empty()) {
    return find_in_splits(root, splits, layout);
  }
  if (layout == TrackLayout::kMusdb18) {
    throw InputError("{}: has no folder train{}; MUSDB18 has train and test", root.string(),
                     first_names(listing.folders));
  }
  Evidence seen;
  if (layout == TrackLayout::kAuto && (layout = layout_of(listing, seen)) == TrackLayout::kAuto) {
    refuse_unknown(root, listing, seen);
  }
  return {root, layout, tracks_of(root, layout)};
}

}  // namespace

TrackLayout track_layout(std::string_view name) {
  for (const auto& [layout, known] : kLayoutNames) {
    if (name == known) {
      return layout;
    }
  }
  throw UsageError("'{}' is no layout of audio; there are {}{}", name,
                   comma_list(track_layout_names()), did_you_mean(name, track_layout_names()));
}

std::string_view track_layout_name(TrackLayout layout) {
  return std::ranges::find(kLayoutNames, layout, [](const auto& known) { return known.first; })
      ->second;
}

std::vector<std::string> track_layout_names() {
  std::vector<std::string> names;
  for (const auto& [layout, name] : kLayoutNames) {
    names.emplace_back(name);
  }
  return names;
}

std::vector<std::string> AudioRoot::source_names() const {
  std::set<std::string> names;
  for (const TrackFiles& track : tracks) {
    for (const AudioSource& source : track.sources) {
      names.insert(source.name);
    }
  }
  return {names.begin(), names.end()};
}

AudioRoot find_audio_tracks(const fs::path& root, TrackLayout layout) {
  AudioRoot found = find(root, layout);
  tidy(found);
  return found;
}

bool is_musdb_validation_track(std::string_view name) {
  return std::ranges::find(kMusdbValidation, name) != kMusdbValidation.end();
}

}  // namespace stemfabric
