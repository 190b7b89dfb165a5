// The audio files of `stemfabric bss-eval`: two folders of equally named files.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/memory/buffer.h"

namespace stemfabric {

struct BssSources {
  std::vector<std::string> names;  // file names without extension
  std::vector<std::filesystem::path> reference_files, estimate_files;
  int sample_rate = 0;
  Tensor references, estimates;  // [S, C, N] f32, N of the references
};

// The sources `names` in that order; if empty, those of every .wav and .flac file of either folder,
// by name. An InputError names the file that is missing, of another rate, channel count or (among
// references) length, empty, unreadable or not mono or stereo. As in museval an estimate of another
// length than its reference is cut or goes on with zeros; a warning says so.
BssSources read_bss_sources(const std::filesystem::path& references,
                            const std::filesystem::path& estimates,
                            const std::vector<std::string>& names);

}  // namespace stemfabric
