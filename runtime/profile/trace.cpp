#include "runtime/profile/trace.h"

#include <algorithm>
#include <atomic>

#include "runtime/core/check.h"

namespace stemfabric {

namespace {
std::atomic<Trace*> g_installed{nullptr};
}

Trace::~Trace() { uninstall(); }

void Trace::install() {
  Trace* none = nullptr;
  SF_CHECK(g_installed.compare_exchange_strong(none, this) || none == this,
           "another trace is installed already");
}

void Trace::install(Stream& stream) {
  install();
  stream_ = stream.device().kind == DeviceKind::kCpu ? nullptr : &stream;
}

void Trace::uninstall() {
  Trace* self = this;
  g_installed.compare_exchange_strong(self, nullptr);
  stream_ = nullptr;
}

std::size_t Trace::row_of(const char* name) {
  const auto row = std::ranges::find(rows_, name, &Row::name);
  if (row == rows_.end()) {
    rows_.push_back({name, 0.0, 0});
    return rows_.size() - 1;
  }
  return static_cast<std::size_t>(row - rows_.begin());
}

void Trace::add(const char* name, double seconds) {
  Row& row = rows_[row_of(name)];
  row.seconds += seconds;
  ++row.calls;
}

std::unique_ptr<Event> Trace::begin() const {
  return stream_ != nullptr ? stream_->record() : nullptr;
}

// A stream that takes no more events has failed, and says so when it is waited for.
void Trace::end(const char* name, std::unique_ptr<Event> begin) noexcept {
  if (stream_ == nullptr) {
    return;  // uninstalled within the scope
  }
  try {
    std::unique_ptr<Event> end = stream_->record();
    pending_.push_back({row_of(name), std::move(begin), std::move(end)});
  } catch (const DeviceError&) {
    return;
  }
}

void Trace::clear() {
  pending_.clear();
  rows_.clear();
}

const std::vector<Trace::Row>& Trace::rows() {
  for (const Pending& scope : pending_) {
    scope.end->synchronize();
    rows_[scope.row].seconds += scope.end->seconds_since(*scope.begin);
    ++rows_[scope.row].calls;
  }
  pending_.clear();
  return rows_;
}

TraceScope::TraceScope(const char* name)
    : trace_(g_installed.load(std::memory_order_acquire)), name_(name) {
  if (trace_ != nullptr) {
    begin_event_ = trace_->begin();
    begin_ = std::chrono::steady_clock::now();
  }
}

TraceScope::~TraceScope() {
  if (trace_ == nullptr) {
    return;
  }
  if (begin_event_ != nullptr) {
    trace_->end(name_, std::move(begin_event_));
    return;
  }
  trace_->add(name_,
              std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count());
}

}  // namespace stemfabric
