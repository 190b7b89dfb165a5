#include "trainer/training/metrics_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/core/log.h"

namespace stemfabric {
namespace {

// Keys in the order of insertion: lines read well.
using Json = nlohmann::ordered_json;

[[noreturn]] void fail(const std::filesystem::path& path, const char* what) {
  throw IoError("{}: cannot {}: {}", path.string(), what, std::strerror(errno));
}

void add_losses(Json& json, const std::string& prefix, const LossValues& loss) {
  json[prefix] = loss.total;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    json[prefix + "_" + std::string(kStemNames[s])] = loss.stem[s];
  }
}

void add_sdr(Json& json, const std::optional<StemValues>& sdr) {
  if (!sdr) {
    return;
  }
  json["val_sdr"] = mean_of_finite(*sdr);
  for (std::size_t s = 0; s < kStemCount; ++s) {
    json["val_sdr_" + std::string(kStemNames[s])] = (*sdr)[s];
  }
}

Json phase_seconds(const PhaseTimes& times) {
  Json json;
  for (std::size_t i = 0; i < kPhaseNames.size(); ++i) {
    if (times.seconds[i] > 0) {
      json[std::string(kPhaseNames[i])] = times.seconds[i];
    }
  }
  return json;
}

// Sample ids come from files: bytes that are no UTF-8 are replaced rather than refused here.
std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& path, uint64_t keep_bytes) : path_(path) {
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (file_ < 0) {
    fail(path, "open it for writing");
  }
  struct stat info {};
  if (::fstat(file_, &info) != 0) {
    fail(path, "read its size");
  }
  bytes_ = keep_bytes;
  if (static_cast<uint64_t>(info.st_size) < keep_bytes) {
    log_warning(
        "{} has {} bytes, but had {} when the checkpoint was made: the metrics of earlier steps "
        "are missing",
        path.string(), info.st_size, keep_bytes);
    bytes_ = static_cast<uint64_t>(info.st_size);
  }
  if (static_cast<uint64_t>(info.st_size) > bytes_ &&
      ::ftruncate(file_, static_cast<off_t>(bytes_)) != 0) {
    fail(path, "cut it to the checkpoint's length");
  }
  if (::lseek(file_, 0, SEEK_END) < 0) {
    fail(path, "go to its end");
  }
}

MetricsLog::~MetricsLog() {
  if (file_ >= 0) {
    ::close(file_);
  }
}

void MetricsLog::append(std::string_view line) {
  const std::string text = std::string(line) + '\n';
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = ::write(file_, text.data() + done, text.size() - done);
    if (written < 0 && errno != EINTR) {
      fail(path_, "write to it");
    }
    done += written > 0 ? static_cast<std::size_t>(written) : 0;
  }
  bytes_ += text.size();
}

void MetricsLog::sync() {
  if (::fsync(file_) != 0) {
    fail(path_, "bring it to the disk");
  }
}

std::string step_line(const StepRecord& record) {
  Json json = {{"kind", "step"}, {"step", record.step}, {"epoch", record.epoch}};
  add_losses(json, "loss", record.loss);
  json["lr"] = record.lr;
  json["grad_norm"] = record.grad_norm;
  json["samples"] = record.samples;
  if (!record.skipped.empty()) {
    json["skipped"] = record.skipped;
    json["sample_ids"] = record.sample_ids;
  }
  json["seconds"] = phase_seconds(record.seconds);
  return dump(json);
}

std::string validation_line(int64_t step, int64_t epoch, const LossValues& loss,
                            const std::optional<StemValues>& sdr, int64_t samples, double seconds) {
  Json json = {{"kind", "validation"}, {"step", step}, {"epoch", epoch}};
  add_losses(json, "val_loss", loss);
  add_sdr(json, sdr);
  json["samples"] = samples;
  json["seconds"] = seconds;
  return dump(json);
}

std::string epoch_line(const EpochRecord& record, bool best, const PhaseTimes& seconds) {
  Json json = {{"kind", "epoch"}, {"step", record.step}, {"epoch", record.epoch}};
  add_losses(json, "train_loss", record.train);
  if (record.validation) {
    add_losses(json, "val_loss", *record.validation);
  }
  add_sdr(json, record.validation_sdr);
  json["lr"] = record.lr;
  json["best"] = best;
  json["seconds"] = phase_seconds(seconds);
  return dump(json);
}

}  // namespace stemfabric
