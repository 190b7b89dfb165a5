#include "runtime/core/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <mutex>

#include "runtime/core/log.h"

namespace stemfabric {
namespace {
using Clock = std::chrono::steady_clock;
bool g_enabled = true;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}
}  // namespace

void set_progress_enabled(bool enabled) { g_enabled = enabled; }
bool progress_enabled() { return g_enabled; }

struct Progress::State {
  std::string title;
  std::string unit;
  int64_t total = 0;
  int64_t done = 0;
  bool terminal = false;
  bool drawn = false;
  double interval = 10.0;
  Clock::time_point start = Clock::now();
  Clock::time_point shown = start;
  std::mutex mutex;

  void show(std::string_view note) {
    const double elapsed = seconds_since(start);
    const double rate = elapsed > 0 ? static_cast<double>(done) / elapsed : 0;
    std::string line = fmt::format("{}: {}", title, done);
    if (total > 0) {
      line += fmt::format("/{} {} ({:.0f} %)", total, unit,
                          100.0 * static_cast<double>(done) / static_cast<double>(total));
    } else {
      line += fmt::format(" {}", unit);
    }
    line += fmt::format(", {:.4g} {}/s", rate, unit);
    if (total > done && rate > 0) {
      line += fmt::format(", {} left", format_duration(static_cast<double>(total - done) / rate));
    }
    if (!note.empty()) {
      line += fmt::format(", {}", note);
    }
    if (terminal) {
      fmt::print(stderr, "\r\x1b[2K{}", line);
      std::fflush(stderr);
      drawn = true;
    } else {
      log_message(LogLevel::kInfo, line);
    }
    shown = Clock::now();
  }
};

Progress::Progress(std::string_view title, std::string_view unit, int64_t total)
    : state_(std::make_unique<State>()) {
  state_->title = title;
  state_->unit = unit;
  state_->total = total;
  state_->terminal = isatty(STDERR_FILENO) == 1 && log_format() == LogFormat::kText;
  state_->interval = state_->terminal ? 0.2 : 10.0;
}

Progress::~Progress() {
  if (state_->drawn) {
    fmt::print(stderr, "\r\x1b[2K");
    std::fflush(stderr);
  }
}

void Progress::advance(int64_t amount, std::string_view note) {
  const std::lock_guard lock(state_->mutex);
  state_->done += amount;
  if (g_enabled && seconds_since(state_->shown) >= state_->interval) {
    state_->show(note);
  }
}

void Progress::set_done(int64_t done, std::string_view note) {
  const std::lock_guard lock(state_->mutex);
  state_->done = done;
  if (g_enabled && seconds_since(state_->shown) >= state_->interval) {
    state_->show(note);
  }
}

std::string format_duration(double seconds) {
  if (seconds < 60) {
    return fmt::format("{:.1f} s", seconds);
  }
  const int64_t whole = std::llround(seconds);
  if (whole < 3600) {
    return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  }
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

std::string format_number(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}g}", value, digits) : "not finite";
}

}  // namespace stemfabric
