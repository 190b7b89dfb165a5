// What the collector answers to which request, without sockets: routes, CORS, the token, and the
// way of a snapshot through validation into the store. Protocol: docs/ingest.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/ingest/client_limit.h"
#include "trainer/ingest/ingest_metrics.h"
#include "trainer/ingest/snapshot_writer.h"
#include "trainer/snapshot/snapshot_parser.h"

namespace stemfabric {

struct CollectorOptions {
  // Origins whose pages may send, as a browser writes them ("https://studio.example"); "*": all.
  std::vector<std::string> allowed_origins = {"*"};
  std::string token;  // "Authorization: Bearer <token>" is asked for; empty = none
  uint64_t max_body_bytes = kMaxSnapshotBytes;
  int64_t client_rate = 0;  // snapshots of one client at once, and a minute; 0 = no limit
};

// Of a request's head, what matters; views into it. Absent fields are empty.
struct RequestHead {
  std::string_view method;
  std::string_view target;
  bool has_host = true;
  std::optional<uint64_t> content_length;
  bool chunked = false;
  std::string_view content_type;
  std::string_view content_encoding;
  std::string_view channel;  // X-Prime-Fabric-Channel
  std::string_view origin;
  std::string_view authorization;
  Client client = 0;                  // who sends it
  bool asks_private_network = false;  // Access-Control-Request-Private-Network: true
};

struct Answer {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string_view, std::string>> fields;  // besides the usual ones
};

inline constexpr std::string_view kRetryAfter = "2";  // s: the Studio's own pause

// {"success":false,"error":…}
Answer refusal(int status, std::string_view error);
// The same for what may succeed later: with Retry-After.
Answer retry_later(int status, std::string_view error, std::string_view seconds = kRetryAfter);

class Collector {
 public:
  Collector(CollectorOptions options, SnapshotWriter& writer, IngestMetrics& metrics);

  // The answer that the head alone decides, or nothing: then the body is to be read, of
  // `content_length` bytes, and goes to Intake::post().
  std::optional<Answer> judge(const RequestHead& head) const;

  // The fields that let a page of this origin read the answer.
  void add_cors(std::string_view origin, Answer& answer) const;

  // What one thread needs to validate snapshots; keeps its memory.
  class Intake {
   public:
    explicit Intake(Collector& collector) : collector_(collector) {}
    // Validates a body, behind which kJsonPadding bytes are readable, and has it stored.
    // `done` is called once with the answer: before post() returns for what is refused, else from
    // the writer's thread after the commit.
    void post(std::string_view body, std::function<void(Answer)> done);

   private:
    Collector& collector_;
    SnapshotParser parser_;
    SnapshotRecord record_;
    std::vector<std::string> reasons_;
  };

 private:
  std::optional<Answer> judge_post(const RequestHead& head) const;
  Answer preflight(const RequestHead& head) const;
  Answer health() const;
  bool origin_allowed(std::string_view origin) const;
  bool authorized(std::string_view authorization) const;

  CollectorOptions options_;
  std::unique_ptr<ClientLimit> client_limit_;  // none: null
  SnapshotWriter& writer_;
  IngestMetrics& metrics_;
};

}  // namespace stemfabric
