// SIGTERM, SIGINT and SIGUSR1 ask a running training to save a checkpoint and end.
#pragma once

namespace stemfabric {

// While it lives, the first of these signals is remembered instead of ending the process (a second
// SIGINT ends it at once), and a write past the file size limit is an error instead of a signal.
// One at a time.
class StopSignalGuard {
 public:
  StopSignalGuard();
  ~StopSignalGuard();
  StopSignalGuard(const StopSignalGuard&) = delete;
  StopSignalGuard& operator=(const StopSignalGuard&) = delete;

  // The signal that arrived ("SIGTERM"), or nullptr.
  const char* received() const;
};

}  // namespace stemfabric
