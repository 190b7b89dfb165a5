// Fuzz targets: each gives hostile bytes to one reader of the project (docs/fuzzing.md). The same
// targets run under libFuzzer (libfuzzer_main.cpp) and, over their seeds and a fixed number of
// seeded mutations, as an ordinary test (fuzz_test.cpp).
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/check.h"

namespace stemfabric::fuzz {

struct FuzzTarget {
  std::string_view name;
  // Of every refusal: the reader throws an Error of this kind that names the file, or succeeds.
  ErrorKind refusal;
  // Gives the bytes to the reader. If they are accepted it also checks what the reader promises
  // (what was read is written and read back as the same, parts are as the whole, …) with SF_CHECK.
  void (*read)(std::string_view bytes);
  // Well-formed inputs and known bad ones, made by the project's writers or from tests/data.
  std::vector<std::string> (*seeds)();
};

extern const FuzzTarget kAudioFile;        // WAV, RF64, W64, AIFF and FLAC
extern const FuzzTarget kAudioManifest;    // manifest.json of an audio data set
extern const FuzzTarget kCheckpointState;  // state.json of a checkpoint
extern const FuzzTarget kConfigJson;       // configurations in checkpoints and weights files
extern const FuzzTarget kConfigYaml;       // configuration files
extern const FuzzTarget kDatasetManifest;  // manifest.json of a data set of snapshots
extern const FuzzTarget kHttp;             // a connection to the collector
extern const FuzzTarget kNpy;
extern const FuzzTarget kRecord;  // lines of sanitised snapshots
extern const FuzzTarget kSafetensors;
extern const FuzzTarget kSnapshot;    // snapshots as the Studio exports them
extern const FuzzTarget kStemMap;     // entries of data.stem_map
extern const FuzzTarget kTrackTable;  // tracks.csv of an audio data set
extern const FuzzTarget kWeights;     // weights, whatever their tensors and metadata say

// What file names and sources are made of; every refusal must hold it.
inline constexpr std::string_view kSource = "hostile";

// True if the bytes were accepted, false if they were refused as they should be; any other
// exception passes through, a refusal that is not as it should be becomes an InternalError.
bool accepts(const FuzzTarget& target, std::string_view bytes);

// A folder of this process, removed at its end.
const std::filesystem::path& scratch_folder();
// The file hostile<extension> in it, with these bytes.
std::filesystem::path hostile_file(const std::string& extension, std::string_view bytes);
// What a writer makes of a path that ends in `extension`.
std::string written(const std::string& extension,
                    const std::function<void(const std::filesystem::path&)>& write);

}  // namespace stemfabric::fuzz
