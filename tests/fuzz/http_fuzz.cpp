#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "runtime/core/log.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/http_client.h"
#include "trainer/ingest/collector.h"
#include "trainer/ingest/http_server.h"

namespace stemfabric::fuzz {
namespace {

using test::HttpClient;
using test::HttpResponse;

// A collector in this process, with its store in the scratch folder.
class CollectorService {
 public:
  CollectorService() {
    set_log_level(LogLevel::kError);
    options_.threads = 1;
  }
  HttpResponse exchange(std::string_view bytes) const {
    HttpClient client(server_.port());
    client.send(bytes);
    client.finish();
    const bool head_only = bytes.starts_with("HEAD");
    HttpResponse answer = client.receive(head_only);
    while (answer.status == 100) {  // Continue
      answer = client.receive(head_only);
    }
    return answer;
  }

 private:
  IngestMetrics metrics_;
  SnapshotStore store_{scratch_folder() / "store.db", StoreAccess::kWrite};
  SnapshotWriter writer_{store_, {}, metrics_};
  Collector collector_{{}, writer_, metrics_};
  HttpServerOptions options_;
  HttpServer server_{options_, collector_, metrics_};
};

bool is_documented(int status) {
  constexpr std::array kStatuses = {200, 204, 400, 401, 403, 404, 405,
                                    411, 413, 415, 429, 431, 503};
  return std::ranges::find(kStatuses, status) != kStatuses.end();
}

// The bytes of one connection. Whatever they are, an answer is one of the documented ones, with a
// JSON object that says what is wrong, and the collector goes on answering.
void read(std::string_view bytes) {
  (void)scratch_folder();  // made first, so that it outlives the store in it
  static const CollectorService kCollector;
  const HttpResponse answer = kCollector.exchange(bytes);
  SF_CHECK(kCollector.exchange(test::http_request("GET", "/healthz", {})).status == 200);
  if (answer.status == 0) {
    throw InputError("{}: no whole request", kSource);
  }
  SF_CHECK(is_documented(answer.status), "status {}", answer.status);
  if (answer.status >= 400) {
    SF_CHECK(std::ranges::all_of(answer.body,
                                 [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }),
             "{}", answer.body);
    if (!bytes.starts_with("HEAD")) {
      const auto json = nlohmann::json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
      SF_CHECK(json.is_object() && json.contains("error"), "{}", answer.body);
    }
    throw InputError("{}: status {}", kSource, answer.status);
  }
}

std::vector<std::string> seeds() {
  const std::string snapshot = kSnapshot.seeds().front();
  const std::vector<std::string> studio = {"Content-Type: application/json",
                                           "X-Prime-Fabric-Channel: stem-separation",
                                           "Origin: https://studio.example"};
  using test::http_request;
  return {
      http_request("POST", "/stem-separation", studio, snapshot),
      http_request("POST", "/", {"Content-Type: text/plain;charset=UTF-8"}, snapshot),
      http_request("GET", "/healthz", {}) + http_request("GET", "/metrics", {}),
      http_request("OPTIONS", "/",
                   {"Origin: https://studio.example", "Access-Control-Request-Method: POST",
                    "Access-Control-Request-Headers: x-prime-fabric-channel"}),
      http_request("POST", "/", {"X-Prime-Fabric-Channel: another"}, "{}"),
      http_request("POST", "/", {"Expect: 100-continue", "Content-Type: application/json"}, "{"),
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n{}",
      http_request("HEAD", "/healthz", {}),
      "GET /healthz HTTP/1.0\r\n\r\n"};
}

}  // namespace

const FuzzTarget kHttp = {"http", ErrorKind::kInputData, read, seeds};

}  // namespace stemfabric::fuzz
