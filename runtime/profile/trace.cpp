#include "runtime/profile/trace.h"

#include <algorithm>
#include <atomic>

#include "runtime/core/check.h"

namespace stemfabric {

namespace {
std::atomic<Trace*> g_installed{nullptr};
}

Trace::~Trace() {
  Trace* self = this;
  g_installed.compare_exchange_strong(self, nullptr);
}

void Trace::install() {
  Trace* none = nullptr;
  SF_CHECK(g_installed.compare_exchange_strong(none, this) || none == this,
           "another trace is installed already");
}

void Trace::add(const char* name, double seconds) {
  auto row = std::ranges::find(rows_, name, &Row::name);
  if (row == rows_.end()) {
    row = rows_.insert(rows_.end(), {name, 0.0, 0});
  }
  row->seconds += seconds;
  ++row->calls;
}

TraceScope::TraceScope(const char* name)
    : trace_(g_installed.load(std::memory_order_acquire)), name_(name) {
  if (trace_ != nullptr) {
    begin_ = std::chrono::steady_clock::now();
  }
}

TraceScope::~TraceScope() {
  if (trace_ != nullptr) {
    trace_->add(name_,
                std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count());
  }
}

}  // namespace stemfabric
