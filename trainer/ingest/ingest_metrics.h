// What the collector counts, for GET /metrics: text in Prometheus' exposition format 0.0.4.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace stemfabric {

using Counter = std::atomic<uint64_t>;

// Times in the buckets that kBounds (seconds) cuts; the last one is open.
class TimeHistogram {
 public:
  static constexpr std::array<double, 10> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025,
                                                     0.05,  0.1,    0.25,  1.0,  5.0};
  void add(std::chrono::nanoseconds time);
  void append(const std::string& name, const std::string& help, std::string& out) const;

 private:
  std::array<Counter, kBounds.size() + 1> counts_{};
  std::atomic<uint64_t> total_nanoseconds_{0};
};

struct IngestMetrics {
  // Snapshots by verdict; a snapshot that could not be stored counts under none.
  Counter accepted{0};
  Counter repaired{0};
  Counter rejected{0};
  Counter duplicate{0};
  Counter body_bytes{0};
  // Answers by status, and those to requests that never became one (malformed, too slow).
  std::array<Counter, 600> answers{};
  Counter connections_total{0};
  std::atomic<int64_t> connections{0};
  Counter connections_refused{0};
  Counter timeouts{0};
  Counter limited{0};  // requests beyond the rate of a client
  Counter commits{0};
  Counter commits_failed{0};
  Counter purged{0};
  std::atomic<int64_t> arriving_bytes{0};  // memory of the bodies that are being read
  std::atomic<int64_t> stored{0};          // snapshots in the store
  std::atomic<int64_t> waiting{0};         // records that wait for the disk
  std::atomic<int64_t> waiting_bytes{0};
  TimeHistogram request_time;  // from a request's head until its answer is ready
  TimeHistogram commit_time;   // one transaction

  void count_answer(int status);
  std::string text() const;
};

}  // namespace stemfabric
