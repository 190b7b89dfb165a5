#include "trainer/ingest/collector.h"

#include <fmt/core.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cctype>
#include <chrono>

#include "runtime/core/check.h"
#include "trainer/snapshot/record.h"

namespace stemfabric {
namespace {

constexpr std::string_view kChannel = "stem-separation";
constexpr std::string_view kPostMethods = "POST, OPTIONS";
constexpr std::string_view kGetMethods = "GET, HEAD";
// For as long as browsers allow (Chromium: 2 h), so that not every snapshot costs a preflight.
constexpr std::string_view kPreflightSeconds = "7200";

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
  const std::size_t end = text.find_last_not_of(" \t");
  return end == std::string_view::npos ? std::string_view() : text.substr(begin, end + 1 - begin);
}

// application/json or text/plain, in UTF-8 if it says so: what the Studio's fetch and sendBeacon
// write. Other parameters are ignored.
bool is_snapshot_type(std::string_view content_type) {
  std::size_t end = std::min(content_type.find(';'), content_type.size());
  const std::string_view type = trimmed(content_type.substr(0, end));
  if (!equal_ignoring_case(type, "application/json") && !equal_ignoring_case(type, "text/plain")) {
    return false;
  }
  while (end < content_type.size()) {
    const std::size_t begin = end + 1;
    end = std::min(content_type.find(';', begin), content_type.size());
    const std::string_view parameter = trimmed(content_type.substr(begin, end - begin));
    const std::size_t equals = std::min(parameter.find('='), parameter.size());
    if (!equal_ignoring_case(parameter.substr(0, equals), "charset")) {
      continue;
    }
    std::string_view value = parameter.substr(std::min(equals + 1, parameter.size()));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') {
      value = value.substr(1, value.size() - 2);
    }
    if (!equal_ignoring_case(value, "utf-8") && !equal_ignoring_case(value, "utf8")) {
      return false;
    }
  }
  return true;
}

// Messages of ours: printable ASCII but for quotes and backslashes of what they quote.
std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out + '"';
}

Answer wrong_method(std::string_view allowed) {
  Answer answer = refusal(405, fmt::format("this path takes {}", allowed));
  answer.fields.emplace_back("Allow", allowed);
  return answer;
}

std::string lines(const std::vector<std::string>& reasons) {
  std::string text;
  for (const std::string& reason : reasons) {
    text += (text.empty() ? "" : "\n") + reason;
  }
  return text;
}

int64_t now_in_milliseconds() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Answer refusal(int status, std::string_view error) {
  return {.status = status,
          .body = fmt::format("{{\"success\":false,\"error\":{}}}\n", json_string(error))};
}

Answer retry_later(int status, std::string_view error, std::string_view seconds) {
  Answer answer = refusal(status, error);
  answer.fields.emplace_back("Retry-After", seconds);
  return answer;
}

Collector::Collector(CollectorOptions options, SnapshotWriter& writer, IngestMetrics& metrics)
    : options_(std::move(options)), writer_(writer), metrics_(metrics) {
  options_.max_body_bytes = std::min(options_.max_body_bytes, kMaxSnapshotBytes);
  if (options_.client_rate > 0) {
    client_limit_ = std::make_unique<ClientLimit>(options_.client_rate);
  }
}

std::optional<Answer> Collector::judge(const RequestHead& head) const {
  if (!head.has_host) {
    return refusal(400, "Host: is missing");
  }
  const std::string_view path = head.target.substr(0, head.target.find('?'));
  const bool get = head.method == "GET" || head.method == "HEAD";
  if (path == "/" || path == "/stem-separation") {
    if (head.method == "POST") {
      return judge_post(head);
    }
    return head.method == "OPTIONS" ? preflight(head) : wrong_method(kPostMethods);
  }
  if (path == "/healthz") {
    return get ? health() : wrong_method(kGetMethods);
  }
  if (path == "/metrics") {
    if (!get) {
      return wrong_method(kGetMethods);
    }
    if (!authorized(head.authorization)) {
      return refusal(401, "Authorization: the bearer token is missing or wrong");
    }
    return Answer{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                  .body = metrics_.text()};
  }
  return refusal(404, "no such path; snapshots go to / or /stem-separation");
}

std::optional<Answer> Collector::judge_post(const RequestHead& head) const {
  if (!head.origin.empty() && !origin_allowed(head.origin)) {
    return refusal(403, "Origin: pages of this origin may not send snapshots here");
  }
  if (!authorized(head.authorization)) {
    Answer answer = refusal(401, "Authorization: the bearer token is missing or wrong");
    answer.fields.emplace_back("WWW-Authenticate", "Bearer");
    return answer;
  }
  if (!head.channel.empty() && head.channel != kChannel) {
    return refusal(400, "X-Prime-Fabric-Channel: only the channel stem-separation is taken here");
  }
  if (!is_snapshot_type(head.content_type)) {
    return refusal(415, "Content-Type: must be application/json or text/plain, in UTF-8");
  }
  if (!head.content_encoding.empty() && !equal_ignoring_case(head.content_encoding, "identity")) {
    return refusal(415, "Content-Encoding: must be identity");
  }
  if (head.chunked || !head.content_length) {
    return refusal(411, "Content-Length: is missing; chunked bodies are not taken");
  }
  if (*head.content_length > options_.max_body_bytes) {
    return refusal(
        413, fmt::format("Content-Length: at most {} bytes are taken", options_.max_body_bytes));
  }
  if (client_limit_ != nullptr) {
    if (const auto wait = client_limit_->take(head.client, ClientLimit::Clock::now())) {
      metrics_.limited.fetch_add(1, std::memory_order_relaxed);
      return retry_later(429,
                         fmt::format("at most {} snapshots a minute are taken from one client; "
                                     "send it again later",
                                     options_.client_rate),
                         std::to_string(wait->count()));
    }
  }
  return std::nullopt;
}

Answer Collector::preflight(const RequestHead& head) const {
  Answer answer{.status = 204, .content_type = "", .body = ""};
  if (!origin_allowed(head.origin)) {
    return answer;  // without the fields that would allow it
  }
  answer.fields.emplace_back("Access-Control-Allow-Methods", kPostMethods);
  answer.fields.emplace_back("Access-Control-Allow-Headers",
                             options_.token.empty()
                                 ? "Content-Type, X-Prime-Fabric-Channel"
                                 : "Content-Type, X-Prime-Fabric-Channel, Authorization");
  answer.fields.emplace_back("Access-Control-Max-Age", kPreflightSeconds);
  if (head.asks_private_network) {
    answer.fields.emplace_back("Access-Control-Allow-Private-Network", "true");
  }
  return answer;
}

Answer Collector::health() const {
  return writer_.healthy() ? Answer{.body = "{\"status\":\"ok\"}\n"}
                           : Answer{.status = 503, .body = "{\"status\":\"store failed\"}\n"};
}

void Collector::add_cors(std::string_view origin, Answer& answer) const {
  const bool any = std::find(options_.allowed_origins.begin(), options_.allowed_origins.end(),
                             "*") != options_.allowed_origins.end();
  if (any) {
    answer.fields.emplace_back("Access-Control-Allow-Origin", "*");
    return;
  }
  answer.fields.emplace_back("Vary", "Origin");
  if (origin_allowed(origin)) {
    answer.fields.emplace_back("Access-Control-Allow-Origin", origin);
  }
}

bool Collector::origin_allowed(std::string_view origin) const {
  return std::any_of(options_.allowed_origins.begin(), options_.allowed_origins.end(),
                     [&](const std::string& one) { return one == "*" || one == origin; });
}

// In a time that does not tell how much of a wrong token is right.
bool Collector::authorized(std::string_view authorization) const {
  constexpr std::string_view kScheme = "Bearer ";
  if (options_.token.empty()) {
    return true;
  }
  if (!equal_ignoring_case(authorization.substr(0, kScheme.size()), kScheme)) {
    return false;
  }
  const std::string_view given = trimmed(authorization.substr(kScheme.size()));
  return given.size() == options_.token.size() &&
         CRYPTO_memcmp(given.data(), options_.token.data(), given.size()) == 0;
}

void Collector::Intake::post(std::string_view body, std::function<void(Answer)> done) {
  IngestMetrics& metrics = collector_.metrics_;
  metrics.body_bytes.fetch_add(body.size(), std::memory_order_relaxed);
  const Verdict verdict = parser_.parse(body, record_, reasons_);
  if (verdict == Verdict::kReject) {
    metrics.rejected.fetch_add(1, std::memory_order_relaxed);
    done(refusal(400, reasons_.front()));
    return;
  }
  StoredSnapshot snapshot;
  snapshot.received = now_in_milliseconds();
  snapshot.id = record_.id;
  snapshot.repairs = lines(reasons_);
  append_record(record_, snapshot.record);
  snapshot.record.pop_back();  // the line feed
  Counter& taken = verdict == Verdict::kAccept ? metrics.accepted : metrics.repaired;
  const bool queued = collector_.writer_.submit(
      std::move(snapshot),
      [done, &taken, &metrics, id = record_.id](const SnapshotWriter::Outcome& outcome) {
        if (!outcome.stored) {
          done(retry_later(503, "the store cannot be written now; send it again later"));
          return;
        }
        (outcome.fresh ? taken : metrics.duplicate).fetch_add(1, std::memory_order_relaxed);
        done({.body = fmt::format("{{\"success\":true,\"id\":\"{}\",\"count\":{}}}\n", id,
                                  outcome.count)});
      });
  if (!queued) {
    done(retry_later(429, "too many snapshots wait for the disk; send it again later"));
  }
}

}  // namespace stemfabric
