#include "trainer/ingest/snapshot_writer.h"

#include <algorithm>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/log.h"

namespace stemfabric {
namespace {

constexpr int64_t kPurgeStep = 200;  // rows per transaction: others wait no longer than for these
constexpr std::chrono::seconds kPurgePause{30};
constexpr std::chrono::seconds kProbePause{1};

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
  std::unique_lock lock(mutex_);
  for (;;) {
    wait_for_work(lock);
    if (waiting_.empty() && stop_) {
      return;
    }
    std::swap(batch_, waiting_);
    std::swap(batch_done_, waiting_done_);
    lock.unlock();
    if (!batch_.empty()) {
      write_batch();
    } else if (!healthy_) {
      probe();
    }
    purge_if_due();
    lock.lock();
  }
}

// Until there is something to write, the end, or the time of a probe or a purge.
void SnapshotWriter::wait_for_work(std::unique_lock<std::mutex>& lock) {
  const auto ready = [this] { return stop_ || !waiting_.empty(); };
  const bool purges = limits_.retain.count() > 0;
  if (healthy_ && !purges) {
    event_.wait(lock, ready);
    return;
  }
  const auto probe = healthy_ ? Clock::time_point::max() : Clock::now() + kProbePause;
  event_.wait_until(lock, purges ? std::min(probe, next_purge_) : probe, ready);
}

// So that it is known to be well again even if nobody sends because it was not.
void SnapshotWriter::probe() {
  try {
    store_.probe();
    healthy_ = true;
  } catch (const Error&) {  // as before: it was logged when it began
  }
}

void SnapshotWriter::write_batch() {
  std::vector<bool> fresh;
  const auto begin = Clock::now();
  try {
    fresh = store_.insert(batch_);
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
  metrics_.stored += std::count(fresh.begin(), fresh.end(), true);
  count_stored();
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

// Apart from the insertion, so that what is on the disk is never reported as not stored.
void SnapshotWriter::count_stored() {
  try {
    metrics_.stored = store_.count();
  } catch (const Error& error) {
    log_warning("the snapshots in the store were not counted: {}", error.what());
  }
}

void SnapshotWriter::purge_if_due() {
  if (limits_.retain.count() > 0 && Clock::now() >= next_purge_ && !purge_step()) {
    next_purge_ = Clock::now() + kPurgePause;
  }
}

// Whether there may be more to purge.
bool SnapshotWriter::purge_step() {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  try {
    const int64_t purged = store_.purge_received_before((now - limits_.retain).count(), kPurgeStep);
    metrics_.purged.fetch_add(static_cast<uint64_t>(purged), std::memory_order_relaxed);
    count_stored();
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
