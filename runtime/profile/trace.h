// Where time goes: named scopes around ops. Off (one atomic load per scope) unless a Trace is
// installed. Scopes are flat and opened by one thread at a time, as ops are called.
//   Trace trace;  trace.install();  …  for (const auto& row : trace.rows()) …
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

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
  void add(const char* name, double seconds);
  void clear() { rows_.clear(); }
  const std::vector<Row>& rows() const { return rows_; }  // in order of first appearance

 private:
  std::vector<Row> rows_;
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
};

}  // namespace stemfabric
