#include "trainer/ingest/snapshot_writer.h"

#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/log.h"

namespace stemfabric {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPurgeStep = 200;  // rows per transaction: others wait no longer than for these
constexpr std::chrono::seconds kPurgePause{30};

uint64_t bytes_of(const StoredSnapshot& snapshot) {
  return sizeof(StoredSnapshot) + snapshot.record.size() + snapshot.repairs.size();
}

}  // namespace

SnapshotWriter::SnapshotWriter(SnapshotStore& store, const Limits& limits, IngestMetrics& metrics)
    : store_(store), limits_(limits), metrics_(metrics) {
  metrics_.stored = store_.count();
  thread_ = std::thread([this] { run(); });
}

SnapshotWriter::~SnapshotWriter() { stop(); }

bool SnapshotWriter::submit(StoredSnapshot snapshot, Done done) {
  const uint64_t bytes = bytes_of(snapshot);
  const std::lock_guard lock(mutex_);
  // One that is larger than the limit by itself passes when nothing else is waiting.
  if (stop_ || (waiting_bytes_ > 0 && waiting_bytes_ + bytes > limits_.queued_bytes)) {
    return false;
  }
  waiting_.push_back(std::move(snapshot));
  waiting_done_.push_back(std::move(done));
  waiting_bytes_ += bytes;
  metrics_.waiting.fetch_add(1, std::memory_order_relaxed);
  metrics_.waiting_bytes.store(static_cast<int64_t>(waiting_bytes_), std::memory_order_relaxed);
  event_.notify_one();
  return true;
}

void SnapshotWriter::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    event_.notify_one();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void SnapshotWriter::run() {
  auto next_purge = Clock::now();
  std::unique_lock lock(mutex_);
  for (;;) {
    if (waiting_.empty() && !stop_) {
      const auto wake = [this] { return stop_ || !waiting_.empty(); };
      if (limits_.retain.count() == 0) {
        event_.wait(lock, wake);
      } else {
        event_.wait_until(lock, next_purge, wake);
      }
    }
    if (waiting_.empty() && stop_) {
      return;
    }
    std::swap(batch_, waiting_);
    std::swap(batch_done_, waiting_done_);
    lock.unlock();
    write_batch();
    if (limits_.retain.count() > 0 && Clock::now() >= next_purge && !purge_step()) {
      next_purge = Clock::now() + kPurgePause;
    }
    lock.lock();
  }
}

void SnapshotWriter::write_batch() {
  if (batch_.empty()) {
    return;
  }
  std::vector<bool> fresh;
  const auto begin = Clock::now();
  try {
    fresh = store_.insert(batch_);
    metrics_.stored = store_.count();
    metrics_.commits.fetch_add(1, std::memory_order_relaxed);
    metrics_.commit_time.add(Clock::now() - begin);
    healthy_ = true;
  } catch (const Error& error) {
    fresh.clear();
    metrics_.commits_failed.fetch_add(1, std::memory_order_relaxed);
    if (healthy_.exchange(false)) {  // once, not for every batch until there is room again
      log_error("{} snapshots were refused: {}", batch_.size(), error.what());
    }
  }
  uint64_t bytes = 0;
  for (std::size_t i = 0; i < batch_.size(); ++i) {
    bytes += bytes_of(batch_[i]);
    const bool is_fresh = !fresh.empty() && fresh[i];
    batch_done_[i]({.stored = !fresh.empty(), .fresh = is_fresh, .count = metrics_.stored});
  }
  metrics_.waiting.fetch_sub(static_cast<int64_t>(batch_.size()), std::memory_order_relaxed);
  batch_.clear();
  batch_done_.clear();
  const std::lock_guard lock(mutex_);
  waiting_bytes_ -= bytes;
  metrics_.waiting_bytes.store(static_cast<int64_t>(waiting_bytes_), std::memory_order_relaxed);
}

// Whether there may be more to purge.
bool SnapshotWriter::purge_step() {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  try {
    const int64_t purged = store_.purge_received_before((now - limits_.retain).count(), kPurgeStep);
    metrics_.purged.fetch_add(static_cast<uint64_t>(purged), std::memory_order_relaxed);
    metrics_.stored = store_.count();
    log_holds_purged_ = log_holds_purged_ || purged > 0;
    if (purged == kPurgeStep) {
      return true;
    }
    log_holds_purged_ = log_holds_purged_ && !store_.truncate_log();
    return false;
  } catch (const Error& error) {
    log_error("old snapshots were not purged: {}", error.what());
    return false;
  }
}

}  // namespace stemfabric
