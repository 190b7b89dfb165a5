#include <algorithm>

#include "runtime/io/self_hash.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/paths.h"
#include "trainer/audio_data/audio_manifest.h"
#include "trainer/audio_data/csv.h"
#include "trainer/audio_data/stem_map.h"
#include "trainer/audio_data/track_layout.h"

namespace stemfabric::fuzz {
namespace {

namespace fs = std::filesystem;

// ---- tracks.csv

std::string quoted(const std::string& field) {
  std::string text = "\"";
  for (const char c : field) {
    text += c == '"' ? "\"\"" : std::string(1, c);
  }
  return text + '"';
}

// Every field in quotes.
std::string csv_text(const std::vector<CsvRow>& rows) {
  std::string text;
  for (const CsvRow& row : rows) {
    for (const std::string& field : row.fields) {
      text += quoted(field) + ',';
    }
    text.back() = '\n';
  }
  return text;
}

// The rows, quoted, are read as the same rows; the tracks' names are unique and in order.
void read_table(std::string_view bytes) {
  const fs::path folder = scratch_folder() / kSource;
  fs::create_directories(folder);
  const fs::path file = folder / "tracks.csv";
  const std::vector<CsvRow> rows = parse_csv(bytes, file);
  const std::vector<CsvRow> again = parse_csv(csv_text(rows), "the table written again");
  SF_CHECK(std::ranges::equal(rows, again, {}, &CsvRow::fields, &CsvRow::fields));
  test::put_file(file, bytes);
  const AudioRoot found = find_audio_tracks(file, TrackLayout::kCsv);
  SF_CHECK(std::ranges::is_sorted(found.tracks, {}, &TrackFiles::id));
  SF_CHECK(std::ranges::adjacent_find(found.tracks, {}, &TrackFiles::id) == found.tracks.end());
}

std::vector<std::string> table_seeds() {
  return {
      "track,split,vocals,drums,mixture\na,train,a/v.wav,a/d.wav,a/m.wav\n"
      "b,test,b/v.wav,,\nc,,,c/d.wav,\n",
      "\xEF\xBB\xBFtrack,\"vo\"\"cals\",b a s s\r\n\"a,\r\nb\",x.wav,y.wav\r\n\r\nc,z.flac,\r\n",
      "track,vocals\n\"open,x.wav\n", "track,vocals\n\"a\"b,x.wav\n"};
}

// ---- data.stem_map

// An entry, printed, is read as the same entry.
void read_stem_map(std::string_view bytes) {
  const std::string key(kSource);
  StemMap map;
  map.stems[0] = parse_stem_recipe(std::string(bytes), key);
  const std::string text = map.entry(0);
  StemMap again;
  again.stems[0] = parse_stem_recipe(text, "the entry written again");
  SF_CHECK(again.entry(0) == text, "{} became {}", text, again.entry(0));
}

std::vector<std::string> stem_map_seeds() {
  return {"guitar + piano - other_keys",
          "lowpass(bass, 120)",
          "\"a (b) + c\" + lowpass(\"d e\", 99.5)",
          "residual",
          " absent ",
          "\"absent\"",
          "a - -b",
          "lowpass(a)"};
}

// ---- manifest.json

// Written and read again, the manifest is the same but for the time of writing.
std::string without_time(const AudioManifest& manifest) {
  std::string text = audio_manifest_text(manifest);
  const std::size_t begin = text.find("\"createdAt\"");
  text.erase(begin, text.find('\n', begin) - begin);
  return text.substr(0, text.rfind(kSelfHashKey));
}

void read_manifest(std::string_view bytes) {
  const AudioManifest manifest =
      parse_audio_manifest(std::string(bytes), std::string(kSource) + ".json");
  const AudioManifest again =
      parse_audio_manifest(audio_manifest_text(manifest), "the manifest written again");
  SF_CHECK(without_time(again) == without_time(manifest), "{}", without_time(manifest));
}

// Without a hash of its own, so that damage is not found by that.
std::vector<std::string> manifest_seeds() {
  AudioManifest manifest;
  manifest.run_id = "run";
  manifest.root = "/songs";
  manifest.layout = "tracks";
  manifest.sample_rate = 44100;
  manifest.preset = "demo";
  manifest.stems.fill("absent");
  manifest.stems[0] = "vocals + choir";
  manifest.missing = "absent";
  manifest.train_ratio = 0.9;
  ManifestTrack track;
  track.info = {.id = "a song",
                .file = "train/a song.safetensors",
                .frames = 44100,
                .gain = 0.5,
                .present = {true, false, true},
                .remainder = true,
                .bytes = 1234,
                .sha256 = std::string(64, 'a')};
  track.key = std::string(64, 'b');
  track.audit.sum_error_db = -40.0;
  track.audit.files = {{.file = "a song/vocals.wav", .source = "vocals", .peak = 0.5}};
  track.audit.problems = {{.fatal = false, .text = "a song/vocals.wav: clips"}};
  manifest.tracks[kTrainSide].push_back(track);
  manifest.tracks[kTestSide].push_back(track);
  manifest.left_out.push_back(track.audit);
  manifest.left_out.back().id = "another";
  std::string text = audio_manifest_text(manifest);
  const std::string sealed = text;
  text.replace(text.rfind(kSelfHashKey), 1, "x");
  return {text, sealed};
}

}  // namespace

const FuzzTarget kTrackTable = {"track_table", ErrorKind::kInputData, read_table, table_seeds};
const FuzzTarget kStemMap = {"stem_map", ErrorKind::kConfig, read_stem_map, stem_map_seeds};
const FuzzTarget kAudioManifest = {"audio_manifest", ErrorKind::kInputData, read_manifest,
                                   manifest_seeds};

}  // namespace stemfabric::fuzz
