#include "trainer/ingest/log_checkpointer.h"

#include <chrono>

#include "runtime/core/check.h"
#include "runtime/core/log.h"

namespace stemfabric {
namespace {

constexpr std::chrono::milliseconds kPause{100};

}  // namespace

LogCheckpointer::LogCheckpointer(const std::filesystem::path& store)
    : store_(store, StoreAccess::kWrite), thread_([this] { run(); }) {}

LogCheckpointer::~LogCheckpointer() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    event_.notify_one();
  }
  thread_.join();
}

void LogCheckpointer::run() {
  bool failed = false;
  std::unique_lock lock(mutex_);
  while (!event_.wait_for(lock, kPause, [this] { return stop_; })) {
    lock.unlock();
    try {
      store_.checkpoint();
      failed = false;
    } catch (const Error& error) {  // a full disk: the log stays, and so does what is in it
      if (!failed) {
        log_warning("the store's log stays as it is: {}", error.what());
      }
      failed = true;
    }
    lock.lock();
  }
}

}  // namespace stemfabric
