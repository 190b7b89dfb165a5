// Where time goes: named scopes around ops. Off (one atomic load per scope) unless a Trace is
// installed. Scopes are flat and opened by one thread at a time, as ops are called.
//   Trace trace;  trace.install(ctx.stream());  …  for (const auto& row : trace.rows()) …
// On the CPU an op has finished when it returns, and a scope is timed by the clock. On a GPU it has
// only been queued: a scope is then timed by two events of the stream.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device/stream.h"

namespace stemfabric {

class Trace {
 public:
  struct Row {
    std::string name;
    double seconds = 0;
    int64_t calls = 0;
  };

  Trace() = default;
  ~Trace();  // uninstalls itself
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  void install();  // from now on scopes are added to this trace; at most one is installed
  // The same, of scopes whose ops run on this stream, which must outlive the trace. It cannot
  // capture meanwhile.
  void install(Stream& stream);
  void uninstall();
  void add(const char* name, double seconds);
  void clear();
  const std::vector<Row>& rows();  // in order of first appearance; waits for what was queued

 private:
  friend class TraceScope;
  struct Pending {
    std::size_t row;
    std::unique_ptr<Event> begin, end;
  };
  std::unique_ptr<Event> begin() const;  // null where the clock tells
  void end(const char* name, std::unique_ptr<Event> begin) noexcept;
  std::size_t row_of(const char* name);

  Stream* stream_ = nullptr;  // of a GPU
  std::vector<Row> rows_;
  std::vector<Pending> pending_;
};

class TraceScope {
 public:
  explicit TraceScope(const char* name);  // a literal
  ~TraceScope();
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  Trace* trace_;
  const char* name_;
  std::chrono::steady_clock::time_point begin_;
  std::unique_ptr<Event> begin_event_;
};

}  // namespace stemfabric
