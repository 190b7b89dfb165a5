// SIGTERM, SIGINT and SIGUSR1 ask a running training to save a checkpoint and end.
#pragma once

namespace stemfabric {

// While it lives, a write past the file size limit is an error instead of a signal, and the first
// of these signals is remembered instead of ending the process (a second SIGINT ends it at once).
// Guards of ranks that are threads may live side by side: the first handles the signals, the last
// gives them back.
class StopSignalGuard {
 public:
  // Until remember() is called there is nothing to save: a signal calls `at_first` with its name,
  // which runs in a signal handler and is to end the process. Null: remembers from the start on.
  explicit StopSignalGuard(void (*at_first)(const char* signal) = nullptr);
  ~StopSignalGuard();
  StopSignalGuard(const StopSignalGuard&) = delete;
  StopSignalGuard& operator=(const StopSignalGuard&) = delete;

  void remember();
  // The signal that was remembered ("SIGTERM"), or nullptr.
  const char* received() const;
};

}  // namespace stemfabric
