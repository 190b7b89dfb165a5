// Moves what was committed from the store's log into its main file, beside the writer: done within
// a commit, as SQLite does by itself, the answers of a second or so of load would wait for it.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <thread>

#include "trainer/ingest/snapshot_store.h"

namespace stemfabric {

class LogCheckpointer {
 public:
  // The store must be there. Works on a connection of its own until it is destroyed.
  explicit LogCheckpointer(const std::filesystem::path& store);
  ~LogCheckpointer();
  LogCheckpointer(const LogCheckpointer&) = delete;
  LogCheckpointer& operator=(const LogCheckpointer&) = delete;

 private:
  void run();

  SnapshotStore store_;
  std::mutex mutex_;
  std::condition_variable event_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace stemfabric
