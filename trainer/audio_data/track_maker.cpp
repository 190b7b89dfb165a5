#include "trainer/audio_data/track_maker.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/track_pass.h"
#include "trainer/config/suggest.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr double kLengthTolerance = 0.1;  // seconds; files that end earlier are worth a note

// Reasons to leave a track out that show before anything is decoded.
void require_usable(const TrackFiles& files, const TrackPass& pass, int64_t sample_rate) {
  if (files.sources.empty()) {
    throw InputError("has no source besides its mixture");
  }
  const double seconds = static_cast<double>(pass.frames()) / static_cast<double>(sample_rate);
  if (seconds < kMinTrackSeconds || seconds > kMaxTrackSeconds) {
    throw InputError("is {:.3f} s long; a track has {} to {:.0f} s{}", seconds, kMinTrackSeconds,
                     kMaxTrackSeconds, seconds > 1 ? ", cut it into parts" : "");
  }
  if (!pass.tells_a_stem()) {
    std::vector<std::string> names;
    std::ranges::transform(files.sources, std::back_inserter(names), &AudioSource::name);
    throw InputError("none of its sources ({}) makes a stem by data.stem_map", comma_list(names));
  }
}

void add_notes(int64_t sample_rate, TrackAudit& audit) {
  for (const FileAudit& file : audit.files) {
    const double own = static_cast<double>(file.info.frames) / file.info.sample_rate;
    const double all = static_cast<double>(audit.frames) / static_cast<double>(sample_rate);
    if (all - own > kLengthTolerance) {
      audit.problems.push_back(
          {false,
           fmt::format("{}: is {:.3f} s long, the track {:.3f} s; the rest counts as silence",
                       file.file, own, all)});
    }
  }
  if (audit.sum_error_db && *audit.sum_error_db > kRemainderFloorDb) {
    audit.problems.push_back(
        {false, fmt::format("the mixture file is not the sum of the sources: what differs has "
                            "{:.1f} dB of its energy and stays in the mixture",
                            *audit.sum_error_db)});
  }
}

}  // namespace

TrackIdentity TrackMaker::identify(const TrackFiles& files) const {
  std::string content;
  std::string named =
      fmt::format("stemfabric audio track 1\nrate {}\n{}", sample_rate_, map_.text());
  const auto take = [&](const std::string& source, const fs::path& file) {
    if (!fs::is_regular_file(file)) {
      throw InputError("{}: {}", file.string(),
                       fs::exists(file) ? "is not a file" : "no such file");
    }
    const std::string hash = sha256_file(file);
    content += source + " " + hash + "\n";
    named += source + " " + hash + " " + file.lexically_relative(root_).string() + "\n";
  };
  for (const AudioSource& source : files.sources) {
    for (const fs::path& file : source.files) {
      take(source.name, file);
    }
  }
  if (!files.mixture.empty()) {
    take("mixture", files.mixture);
  }
  return {sha256_hex(content), sha256_hex(named)};
}

MadeTrack TrackMaker::make(const TrackFiles& files, const fs::path& file) const {
  MadeTrack made;
  made.audit.id = files.id;
  made.audit.split = files.split;
  try {
    std::array<bool, TrackPass::kSlots> wide{};
    while (!made.audit.usable) {
      TrackPass pass(files, map_, sample_rate_, wide);
      made.audit.frames = pass.frames();
      made.audit.present = pass.known();
      require_usable(files, pass, sample_rate_);
      if (const auto overflown = pass.run(file)) {
        wide[*overflown] = true;
      } else {
        finish(pass, file, made);
      }
    }
  } catch (const InputError& error) {
    made.audit.problems.push_back({true, error.what()});
  }
  return made;
}

void TrackMaker::finish(TrackPass& pass, const fs::path& file, MadeTrack& made) const {
  TrackAudit& audit = made.audit;
  audit.files = pass.audits(root_);
  if (pass.silent()) {
    throw InputError("its mixture is silent from start to end");
  }
  audit.gain = pass.gain();
  audit.sum_error_db = pass.sum_error_db();
  audit.remainder_db = pass.remainder_db();
  add_notes(sample_rate_, audit);
  const bool remainder = audit.remainder_db > kRemainderFloorDb;
  const std::string sha256 = write_safetensors(file, pass.tensors(remainder), {});
  made.info = {.id = audit.id,
               .frames = audit.frames,
               .gain = audit.gain,
               .present = audit.present,
               .remainder = remainder,
               .bytes = fs::file_size(file),
               .sha256 = sha256};
  audit.usable = true;
}

}  // namespace stemfabric
