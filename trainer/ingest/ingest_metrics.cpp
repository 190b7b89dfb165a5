#include "trainer/ingest/ingest_metrics.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>

namespace stemfabric {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

void heading(std::string& out, std::string_view name, std::string_view type,
             std::string_view help) {
  out += fmt::format("# HELP stemfabric_ingest_{0} {1}\n# TYPE stemfabric_ingest_{0} {2}\n", name,
                     help, type);
}

template <typename T>
void single(std::string& out, std::string_view name, std::string_view type, std::string_view help,
            const std::atomic<T>& value) {
  heading(out, name, type, help);
  out += fmt::format("stemfabric_ingest_{} {}\n", name, value.load(kRelaxed));
}

}  // namespace

void TimeHistogram::add(std::chrono::nanoseconds time) {
  const double seconds = std::chrono::duration<double>(time).count();
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
  counts_[static_cast<std::size_t>(bucket - kBounds.begin())].fetch_add(1, kRelaxed);
  total_nanoseconds_.fetch_add(static_cast<uint64_t>(std::max<int64_t>(time.count(), 0)), kRelaxed);
}

void TimeHistogram::append(const std::string& name, const std::string& help,
                           std::string& out) const {
  heading(out, name, "histogram", help);
  uint64_t sum = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    sum += counts_[i].load(kRelaxed);
    const std::string bound = i < kBounds.size() ? fmt::format("{}", kBounds[i]) : "+Inf";
    out += fmt::format("stemfabric_ingest_{}_bucket{{le=\"{}\"}} {}\n", name, bound, sum);
  }
  out += fmt::format("stemfabric_ingest_{0}_sum {1}\nstemfabric_ingest_{0}_count {2}\n", name,
                     static_cast<double>(total_nanoseconds_.load(kRelaxed)) * 1e-9, sum);
}

void IngestMetrics::count_answer(int status) {
  answers[static_cast<std::size_t>(std::clamp(status, 0, 599))].fetch_add(1, kRelaxed);
}

std::string IngestMetrics::text() const {
  std::string out;
  heading(out, "snapshots_total", "counter", "Snapshots by verdict.");
  for (const auto& [verdict, count] : {std::pair{"accept", &accepted},
                                       {"accept-with-repair", &repaired},
                                       {"reject", &rejected},
                                       {"duplicate", &duplicate}}) {
    out += fmt::format("stemfabric_ingest_snapshots_total{{verdict=\"{}\"}} {}\n", verdict,
                       count->load(kRelaxed));
  }
  heading(out, "answers_total", "counter", "Answers by HTTP status.");
  for (std::size_t status = 0; status < answers.size(); ++status) {
    if (const uint64_t count = answers[status].load(kRelaxed); count > 0) {
      out += fmt::format("stemfabric_ingest_answers_total{{status=\"{}\"}} {}\n", status, count);
    }
  }
  single(out, "body_bytes_total", "counter", "Bytes of the bodies read.", body_bytes);
  single(out, "connections_total", "counter", "Connections accepted.", connections_total);
  single(out, "connections", "gauge", "Open connections.", connections);
  single(out, "connections_refused_total", "counter", "Connections beyond the limit.",
         connections_refused);
  single(out, "timeouts_total", "counter", "Connections closed because they were too slow.",
         timeouts);
  single(out, "limited_total", "counter", "Requests beyond the rate of one client.", limited);
  single(out, "commits_total", "counter", "Transactions on the disk.", commits);
  single(out, "commits_failed_total", "counter", "Transactions that failed.", commits_failed);
  single(out, "purged_total", "counter", "Snapshots purged by age.", purged);
  single(out, "arriving_bytes", "gauge", "Memory of the bodies that are being read.",
         arriving_bytes);
  single(out, "stored", "gauge", "Snapshots in the store.", stored);
  single(out, "waiting", "gauge", "Snapshots that wait for the disk.", waiting);
  single(out, "waiting_bytes", "gauge", "Bytes that wait for the disk.", waiting_bytes);
  request_time.append("request_seconds", "Time from a request's head until its answer is ready.",
                      out);
  commit_time.append("commit_seconds", "Time of a transaction.", out);
  return out;
}

}  // namespace stemfabric
