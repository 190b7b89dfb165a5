// The one thread that writes to the store: takes what has gathered while the disk was busy into one
// transaction, and only then has each of them answered. So the slower the disk, the larger the
// group, and no answer runs ahead of it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "trainer/ingest/ingest_metrics.h"
#include "trainer/ingest/snapshot_store.h"

namespace stemfabric {

class SnapshotWriter {
 public:
  struct Limits {
    uint64_t queued_bytes = 64ULL << 20;  // records that wait for the disk
    std::chrono::milliseconds retain{0};  // older snapshots are purged; 0 = never
  };
  struct Outcome {
    bool stored = false;  // it is on the disk, now or since an earlier time
    bool fresh = false;   // it was new
    int64_t count = 0;    // snapshots in the store
  };
  // Called once, on the writer's thread. Must not throw and not wait.
  using Done = std::function<void(const Outcome&)>;

  // Uses the store, from its own thread, until it is destroyed.
  SnapshotWriter(SnapshotStore& store, const Limits& limits, IngestMetrics& metrics);
  ~SnapshotWriter();  // stop()
  SnapshotWriter(const SnapshotWriter&) = delete;
  SnapshotWriter& operator=(const SnapshotWriter&) = delete;

  // False, and `done` is not called, if too much is waiting or the writer was stopped.
  bool submit(StoredSnapshot snapshot, Done done);
  // Whether the last transaction succeeded. After one that failed, an empty one is tried every
  // second.
  bool healthy() const { return healthy_.load(std::memory_order_relaxed); }
  // Writes what was submitted, then ends the thread.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  void run();
  void wait_for_work(std::unique_lock<std::mutex>& lock);
  void write_batch();
  void count_stored();
  void probe();
  void purge_if_due();
  bool purge_step();

  SnapshotStore& store_;
  Limits limits_;
  IngestMetrics& metrics_;
  std::atomic<bool> healthy_ = true;

  std::mutex mutex_;
  std::condition_variable event_;
  std::vector<StoredSnapshot> waiting_;  // with waiting_done_, index by index
  std::vector<Done> waiting_done_;
  uint64_t waiting_bytes_ = 0;  // also of the batch that is being written
  bool stop_ = false;

  std::vector<StoredSnapshot> batch_;  // the thread's own
  std::vector<Done> batch_done_;
  bool log_holds_purged_ = false;
  Clock::time_point next_purge_ = Clock::now();
  std::thread thread_;
};

}  // namespace stemfabric
