#include "trainer/evaluation/bss_eval_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <system_error>

#include "kernels/bss_eval/bss_eval.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "trainer/audio/audio_input.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using FilesByName = std::map<std::string, fs::path>;

bool is_audio(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return extension == ".wav" || extension == ".flac";
}

FilesByName audio_files(const fs::path& folder) {
  FilesByName files;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (!is_audio(entry->path())) {
      continue;
    }
    const auto [other, added] = files.emplace(entry->path().stem().string(), entry->path());
    if (!added) {
      throw InputError("{} and {} are two files for one source; remove one of them",
                       std::min(other->second, entry->path()).string(),
                       std::max(other->second, entry->path()).string());
    }
  }
  if (error) {
    throw InputError("{}: cannot be read as a folder: {}", folder.string(), error.message());
  }
  return files;
}

std::vector<std::string> all_names(const FilesByName& references, const FilesByName& estimates) {
  std::vector<std::string> names;
  for (const auto* files : {&references, &estimates}) {
    for (const auto& [name, path] : *files) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

void check_distinct(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (std::count(names.begin(), names.end(), name) > 1) {
      throw UsageError("--sources: '{}' is given more than once", name);
    }
  }
}

// The file of a source. `partners` are those of the other folder.
fs::path file_of(const std::string& name, const fs::path& folder, const FilesByName& files,
                 const FilesByName& partners) {
  if (const auto file = files.find(name); file != files.end()) {
    return file->second;
  }
  const auto partner = partners.find(name);
  throw InputError("{}: holds no {}.wav or {}.flac{}; add it, or choose sources with --sources",
                   folder.string(), name, name,
                   partner == partners.end() ? "" : " to go with " + partner->second.string());
}

// The format that all files must have.
struct Format {
  fs::path path;
  AudioInfo info;
};

void check_format(const fs::path& path, const AudioInfo& info, const Format& first) {
  const auto refuse = [&](const char* what, int64_t value, int64_t expected) {
    throw InputError("{} has {} {}, {} has {}; all files must agree", path.string(), value, what,
                     first.path.string(), expected);
  };
  if (info.sample_rate != first.info.sample_rate) {
    refuse("Hz", info.sample_rate, first.info.sample_rate);
  }
  if (info.channels != first.info.channels) {
    refuse("channels", info.channels, first.info.channels);
  }
}

Format first_format(const fs::path& path, std::size_t sources) {
  const AudioInfo info = read_audio_info(path);
  if (info.frames == 0) {
    throw InputError("{}: holds no samples", path.string());
  }
  if (info.channels > 2) {
    throw InputError("{}: has {} channels; mono and stereo can be evaluated", path.string(),
                     info.channels);
  }
  if (static_cast<int64_t>(sources) * info.channels > kMaxBssSignals) {
    throw InputError("{} sources of {} channels are more than {} signals; choose with --sources",
                     sources, info.channels, kMaxBssSignals);
  }
  if (info.frames > kMaxWholeSeconds * info.sample_rate) {
    throw InputError("{}: is longer than {} h; cut it into parts", path.string(),
                     kMaxWholeSeconds / 3600);
  }
  return {path, info};
}

void read_signal(const fs::path& path, const AudioInfo& layout, int64_t frames, float* planar) {
  AudioInput input(path, {.sample_rate = layout.sample_rate, .channels = layout.channels});
  const int64_t got = input.read(std::min(frames, input.frames()), planar, frames);
  for (int c = 0; c < layout.channels; ++c) {
    std::fill(planar + c * frames + got, planar + (c + 1) * frames, 0.0F);
  }
}

Tensor read_all(const std::vector<fs::path>& files, const Format& first, bool references) {
  const auto& [path, info] = first;
  const int64_t frames = info.frames;
  Tensor signals(Shape{static_cast<int64_t>(files.size()), info.channels, frames}, DType::kF32);
  for (std::size_t s = 0; s < files.size(); ++s) {
    const AudioInfo own = read_audio_info(files[s]);
    check_format(files[s], own, first);
    if (own.frames != frames && references) {
      throw InputError(
          "{} holds {} samples per channel, {} holds {}; references must be of one length",
          files[s].string(), own.frames, path.string(), frames);
    }
    if (own.frames != frames) {
      log_warning("{}: holds {} samples per channel, its reference {}: {}", files[s].string(),
                  own.frames, frames,
                  own.frames > frames ? "the rest is left out" : "it goes on with zeros");
    }
    read_signal(files[s], info, frames,
                signals.as<float>() + static_cast<int64_t>(s) * info.channels * frames);
  }
  return signals;
}

}  // namespace

BssSources read_bss_sources(const fs::path& references, const fs::path& estimates,
                            const std::vector<std::string>& names) {
  const FilesByName reference_files = audio_files(references);
  const FilesByName estimate_files = audio_files(estimates);
  BssSources sources;
  sources.names = names.empty() ? all_names(reference_files, estimate_files) : names;
  if (sources.names.empty()) {
    throw InputError("{}: holds no .wav or .flac file", references.string());
  }
  check_distinct(sources.names);
  for (const std::string& name : sources.names) {
    sources.reference_files.push_back(file_of(name, references, reference_files, estimate_files));
    sources.estimate_files.push_back(file_of(name, estimates, estimate_files, reference_files));
  }
  const Format first = first_format(sources.reference_files.front(), sources.names.size());
  sources.sample_rate = first.info.sample_rate;
  sources.references = read_all(sources.reference_files, first, true);
  sources.estimates = read_all(sources.estimate_files, first, false);
  return sources;
}

}  // namespace stemfabric
