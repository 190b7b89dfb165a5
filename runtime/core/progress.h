// Progress of long commands: a redrawn line with rate and ETA on a terminal, a plain line every ten
// seconds elsewhere, nothing with --quiet, log lines with --log-format json.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace stemfabric {

// Process-wide: `--quiet` turns every progress display off.
void set_progress_enabled(bool enabled);
bool progress_enabled();

class Progress {
 public:
  // total 0 = unknown. `unit` is the plural of what is counted ("records", "steps").
  Progress(std::string_view title, std::string_view unit, int64_t total);
  ~Progress();  // erases the redrawn line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Thread-safe. `note` is shown after the rate ("loss 0.012").
  void advance(int64_t amount, std::string_view note = {});
  void set_done(int64_t done, std::string_view note = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// "12.3 s", "4 min 05 s", "2 h 10 min".
std::string format_duration(double seconds);
// "0.0123457" with that many significant digits, "not finite" for NaN and infinities.
std::string format_number(double value, int digits = 6);

}  // namespace stemfabric
