#include "trainer/training/resume.h"

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

std::optional<Checkpoint> newest_whole(const fs::path& folder) {
  std::vector<fs::path> paths = list_checkpoints(folder);
  const std::size_t count = paths.size();
  std::string last_problem;
  for (; !paths.empty(); paths.pop_back()) {
    try {
      return read_checkpoint(paths.back());
    } catch (const InputError& error) {
      last_problem = error.what();
    } catch (const IoError& error) {
      last_problem = error.what();
    }
    log_warning("checkpoint {} cannot be used: {}", paths.back().filename().string(), last_problem);
  }
  if (count > 0) {
    throw InputError(
        "{}: none of the {} checkpoints can be used ({}); start over with --resume never",
        folder.string(), count, last_problem);
  }
  return std::nullopt;
}

std::optional<Checkpoint> named_checkpoint(const fs::path& path) {
  if (!fs::is_directory(path)) {
    throw InputError(
        "--resume {}: no such folder; name a checkpoint (…/checkpoints/step-NNNNNN) or "
        "use auto or never",
        path.string());
  }
  fs::path folder = path;
  if (!folder.has_filename()) {
    folder = folder.parent_path();  // a slash at the end
  }
  for (const fs::path& place : {folder / "checkpoints", folder}) {
    if (fs::is_directory(place) && !list_checkpoints(place).empty()) {
      return newest_whole(place);
    }
  }
  return read_checkpoint(folder);
}

}  // namespace

std::optional<Checkpoint> choose_checkpoint(const std::string& resume, const fs::path& checkpoints,
                                            const RunIdentity& identity,
                                            const std::string& device) {
  if (resume == "never") {
    return std::nullopt;
  }
  std::optional<Checkpoint> checkpoint =
      resume == "auto" ? newest_whole(checkpoints) : named_checkpoint(resume);
  if (!checkpoint) {
    return std::nullopt;
  }
  std::string keys;
  for (const std::string& difference : differences(identity, checkpoint->identity)) {
    keys += (keys.empty() ? "" : "; ") + difference;
  }
  if (!keys.empty()) {
    throw ConfigError(
        "{}: made by another run: {}; set them as they were, choose another --output-dir, or start "
        "over with --resume never",
        checkpoint->path.string(), keys);
  }
  if (checkpoint->code_revision != code_revision()) {
    log_warning(
        "{} was written by code revision {}, this is {}: the same weights to the last bit "
        "are not promised",
        checkpoint->path.string(), checkpoint->code_revision, code_revision());
  }
  if (!checkpoint->device.empty() && checkpoint->device != device) {
    log_warning(
        "{} was written on {}, this run goes on on {}, which rounds differently: the same weights "
        "to the last bit are not promised",
        checkpoint->path.string(), checkpoint->device, device);
  }
  return checkpoint;
}

}  // namespace stemfabric
