// What the collector answers: the Studio's requests, and every refusal of docs/ingest.md.
#include <gmock/gmock.h>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/trainer/ingest/ingest_server.h"
#include "trainer/snapshot/record.h"
#include "trainer/snapshot/sanitize.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class IngestProtocol : public IngestServer {};

TEST_F(IngestProtocol, TakesWhatTheStudioSends) {
  begin();
  const HttpResponse first = exchange(studio_post(numbered_snapshot(1)));
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(first.field("content-type"), "application/json");
  EXPECT_EQ(first.field("access-control-allow-origin"), "*");
  EXPECT_EQ(Json::parse(first.body),
            Json({{"success", true}, {"id", snapshot_id(1)}, {"count", 1}}));

  // sendBeacon: text, no channel, cookies.
  const HttpResponse beacon = exchange(http_request(
      "POST", "/stem-separation?unload=1",
      {"Content-Type: text/plain;charset=UTF-8", "Cookie: a=b"}, numbered_snapshot(2)));
  EXPECT_EQ(Json::parse(beacon.body)["count"], 2);

  // The same again, as after a lost answer: taken as stored, not twice.
  const HttpResponse again = exchange(studio_post(numbered_snapshot(1), "/stem-separation"));
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(Json::parse(again.body)["count"], 2);
  EXPECT_EQ(Json::parse(again.body)["id"], snapshot_id(1));
  EXPECT_EQ(metrics_.accepted, 2U);
  EXPECT_EQ(metrics_.duplicate, 1U);
}

TEST_F(IngestProtocol, UpperCaseIdIsTheSameSnapshot) {
  begin();
  std::string id = "abcdefab-0000-4000-8000-000000000001";
  EXPECT_EQ(exchange(studio_post(control_with([&](Json& s) { s["id"] = id; }))).status, 200);
  id = "ABCDEFAB-0000-4000-8000-000000000001";
  const auto answer = exchange(studio_post(control_with([&](Json& s) { s["id"] = id; })));
  EXPECT_EQ(Json::parse(answer.body)["count"], 1);
}

const std::string& preflight() {
  static const std::string kRequest =
      http_request("OPTIONS", "/",
                   {"Origin: https://studio.example", "Access-Control-Request-Method: POST",
                    "Access-Control-Request-Headers: content-type,x-prime-fabric-channel",
                    "Access-Control-Request-Private-Network: true"});
  return kRequest;
}

TEST_F(IngestProtocol, AnswersPreflightsOfAllOrigins) {
  begin();
  const HttpResponse answer = exchange(preflight());
  EXPECT_EQ(answer.status, 204);
  EXPECT_EQ(answer.field("access-control-allow-origin"), "*");
  EXPECT_EQ(answer.field("access-control-allow-methods"), "POST, OPTIONS");
  EXPECT_EQ(answer.field("access-control-allow-headers"), "Content-Type, X-Prime-Fabric-Channel");
  EXPECT_EQ(answer.field("access-control-allow-private-network"), "true");
  EXPECT_EQ(answer.field("access-control-max-age"), "7200");
  EXPECT_EQ(answer.fields.count("content-length"), 0U);
}

TEST_F(IngestProtocol, KnowsItsOrigins) {
  collector_options_.allowed_origins = {"https://other.example", "https://studio.example"};
  begin();
  const HttpResponse known = exchange(preflight());
  EXPECT_EQ(known.field("access-control-allow-origin"), "https://studio.example");
  EXPECT_EQ(known.field("vary"), "Origin");
  EXPECT_EQ(exchange(studio_post(numbered_snapshot(1))).status, 200);
  EXPECT_EQ(exchange(studio_post("{}")).field("access-control-allow-origin"),
            "https://studio.example");  // a page may read why it was refused

  std::string request = preflight();
  request.replace(request.find("studio.example"), 14, "hostile.example");
  const HttpResponse unknown = exchange(request);
  EXPECT_EQ(unknown.fields.count("access-control-allow-origin"), 0U);
  EXPECT_EQ(unknown.fields.count("access-control-allow-methods"), 0U);
  const HttpResponse post = exchange(http_request(
      "POST", "/", {"Content-Type: text/plain", "Origin: https://hostile.example"}, "{}"));
  EXPECT_EQ(post.status, 403);
  EXPECT_THAT(post.body, HasSubstr("Origin"));
  // What is no browser has no origin.
  EXPECT_EQ(exchange(http_request("POST", "/", {"Content-Type: text/plain"}, numbered_snapshot(2)))
                .status,
            200);
}

TEST_F(IngestProtocol, AClientMaySendOnlySoMuch) {
  collector_options_.client_rate = 2;
  begin();
  EXPECT_EQ(exchange(http_request("POST", "/", {"Content-Type: image/png"}, "{}")).status, 415);
  EXPECT_EQ(exchange(studio_post(numbered_snapshot(1))).status, 200);
  EXPECT_EQ(exchange(studio_post("{}")).status, 400);  // its body was read
  const HttpResponse third = exchange(studio_post(numbered_snapshot(2)));
  EXPECT_EQ(third.status, 429);
  EXPECT_THAT(third.body, HasSubstr("at most 2 snapshots a minute are taken from one client"));
  EXPECT_EQ(third.field("access-control-allow-origin"), "*");
  const int wait = std::stoi(third.field("retry-after"));
  EXPECT_GE(wait, 1);
  EXPECT_LE(wait, 30);
  EXPECT_EQ(store_->count(), 1);
  EXPECT_THAT(exchange(http_request("GET", "/metrics", {})).body,
              HasSubstr("stemfabric_ingest_limited_total 1\n"));
}

TEST_F(IngestProtocol, AsksForTheToken) {
  collector_options_.token = "s3cret";
  begin();
  const auto post = [&](const std::string& authorization) {
    return exchange(http_request("POST", "/", {"Content-Type: application/json", authorization},
                                 numbered_snapshot(1)));
  };
  for (const char* wrong : {"Accept: */*", "Authorization: Bearer wrong!", "Authorization: s3cret",
                            "Authorization: Bearer s3cre", "Authorization: Bearer s3cret1",
                            "Authorization: Bearer", "Authorization: Basic s3cret"}) {
    const HttpResponse answer = post(wrong);
    EXPECT_EQ(answer.status, 401) << wrong;
    EXPECT_EQ(answer.field("www-authenticate"), "Bearer");
  }
  EXPECT_EQ(post("Authorization: Bearer s3cret").status, 200);
  EXPECT_EQ(exchange(http_request("GET", "/metrics", {})).status, 401);
  EXPECT_EQ(exchange(http_request("GET", "/metrics", {"Authorization: bearer s3cret"})).status,
            200);
  expect_alive();  // without it
  EXPECT_THAT(exchange(preflight()).field("access-control-allow-headers"),
              HasSubstr("Authorization"));
}

struct Refused {
  std::string request;
  int status;
  std::string message;
};

TEST_F(IngestProtocol, RefusesWithStatusAndReason) {
  collector_options_.max_body_bytes = 100000;
  begin();
  const std::string json = "Content-Type: application/json";
  const std::vector<Refused> cases = {
      {http_request("GET", "/", {}), 405, "POST, OPTIONS"},
      {http_request("DELETE", "/stem-separation", {}), 405, "POST, OPTIONS"},
      {http_request("PATCH", "/", {json}, "{}"), 405, "POST, OPTIONS"},
      {http_request("POST", "/healthz", {json}, "{}"), 405, "GET, HEAD"},
      {http_request("GET", "/favicon.ico", {}), 404, "no such path"},
      {http_request("POST", "/stem-separation/", {json}, "{}"), 404, "no such path"},
      {http_request("POST", "/", {}, "{}"), 415, "Content-Type"},
      {http_request("POST", "/", {"Content-Type: application/jsonp"}, "{}"), 415, "Content-Type"},
      {http_request("POST", "/", {"Content-Type: text/plain;charset=latin1"}, "{}"), 415, "UTF-8"},
      {http_request("POST", "/", {json, "Content-Encoding: gzip"}, "{}"), 415, "Content-Encoding"},
      {http_request("POST", "/", {json, "X-Prime-Fabric-Channel: telemetry"}, "{}"), 400,
       "X-Prime-Fabric-Channel"},
      {http_request("POST", "/", {json}, std::string(100001, ' ')), 413, "100000 bytes"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
       "Content-Length: 99999999999\r\n\r\n{",
       413, "100000 bytes"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\r\n", 411,
       "Content-Length"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
       "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
       411, "chunked"},
      {"GET /healthz HTTP/1.1\r\n\r\n", 400, "Host"},
      {"GET /healthz\r\n\r\n", 400, "no HTTP/1.1"},
      {"\x16\x03\x01\x02\x01\x01\xfc\x03\x03 hello hello", 400, "no HTTP/1.1"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400,
       "no HTTP/1.1"},
      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n{}", 400, "no HTTP/1.1"},
      {"GET /healthz HTTP/1.1\r\nHost: a\r\nCookie: " + std::string(20000, 'x') + "\r\n\r\n", 431,
       "too long"},
      {http_request("POST", "/", {json}, ""), 400, ""},
      {http_request("POST", "/", {json}, "{}"), 400, "id is missing"},
  };
  for (const Refused& one : cases) {
    SCOPED_TRACE(one.request.substr(0, 120));
    const HttpResponse answer = exchange(one.request);
    EXPECT_EQ(answer.status, one.status);
    const Json body = Json::parse(answer.body, nullptr, false);
    ASSERT_TRUE(body.is_object()) << answer.body;
    EXPECT_EQ(body["success"], false);
    EXPECT_THAT(body["error"].get<std::string>(), HasSubstr(one.message));
    EXPECT_EQ(answer.field("access-control-allow-origin"), "*");
    EXPECT_EQ(answer.field("allow"), one.status == 405 ? one.message : "");
  }
  expect_alive();
  EXPECT_EQ(store_->count(), 0);
}

TEST_F(IngestProtocol, MetricsSayWhatHappened) {
  begin();
  exchange(studio_post(numbered_snapshot(1)));
  exchange(studio_post("{}"));
  const HttpResponse answer = exchange(http_request("GET", "/metrics", {}));
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.field("content-type"), HasSubstr("version=0.0.4"));
  for (const char* line :
       {"stemfabric_ingest_snapshots_total{verdict=\"accept\"} 1\n",
        "stemfabric_ingest_snapshots_total{verdict=\"reject\"} 1\n",
        "stemfabric_ingest_answers_total{status=\"200\"} 1\n",
        "stemfabric_ingest_answers_total{status=\"400\"} 1\n", "stemfabric_ingest_stored 1\n",
        "stemfabric_ingest_commits_total 1\n", "stemfabric_ingest_request_seconds_count 2\n",
        "stemfabric_ingest_commit_seconds_bucket{le=\"+Inf\"} 1\n"}) {
    EXPECT_THAT(answer.body, HasSubstr(line));
  }
  const HttpResponse head = [&] {
    HttpClient client(port());
    client.send(http_request("HEAD", "/metrics", {}));
    HttpResponse response = client.receive(true);
    // The connection goes on where the body would have been.
    EXPECT_EQ(client.exchange(http_request("GET", "/healthz", {})).status, 200);
    return response;
  }();
  EXPECT_EQ(head.status, 200);
  EXPECT_THAT(head.field("content-length"), testing::Not("0"));
}

// Every bad snapshot over HTTP: the verdict of the policy, its reason, and none of its text.
TEST_F(IngestProtocol, BadSnapshotsAsThePolicySays) {
  begin();
  const fs::path folder = data_dir() / "bad_snapshots";
  const Json index = read_ordered_json(folder / "index.json");
  fs::create_directory(dir_ / "files");
  std::string everything;
  for (const Json& file : index["files"]) {
    const std::string name = file["file"];
    SCOPED_TRACE(name);
    const std::string text = read_text_file(folder / name);
    const bool rejected = file["verdict"] == "reject";
    const HttpResponse answer = exchange(studio_post(text));
    EXPECT_EQ(answer.status, rejected ? 400 : 200) << answer.body;
    if (rejected) {
      EXPECT_EQ(Json::parse(answer.body)["error"], parse(text).reason());
    }
    everything += answer.body;
    for (const Json& secret : file.value("must_not_leak", Json::array())) {
      for (const fs::directory_entry& entry : fs::directory_iterator(dir_.path())) {
        if (entry.is_regular_file()) {  // the database, its log
          everything += read_text_file(entry.path());
        }
      }
      EXPECT_EQ(everything.find(secret.get<std::string>()), std::string::npos);
    }
  }
}

// Through the store or straight from the files: the same records, the same verdicts.
TEST_F(IngestProtocol, SanitizingTheStoreIsSanitizingTheFiles) {
  begin();
  std::string lines;
  for (const char* folder : {"snapshots", "bad_snapshots"}) {
    for (const fs::directory_entry& entry : fs::directory_iterator(data_dir() / folder)) {
      const std::string text = read_text_file(entry.path());
      if (exchange(studio_post(text)).status == 200) {
        const bool bom = text.starts_with("\xEF\xBB\xBF");
        const std::string dense = Json::parse(text).dump();
        lines += (bom ? "\xEF\xBB\xBF" : "") + dense + "\n";
      }
    }
  }
  EXPECT_GT(store_->count(), 8);
  write_text_file(dir_ / "files.jsonl", lines);
  const auto sanitize = [&](const fs::path& input, int64_t after = 0) {
    const SanitizeSummary summary = sanitize_snapshots({.input = input,
                                                        .output = dir_ / "out.jsonl",
                                                        .report = dir_ / "report.json",
                                                        .threads = 2,
                                                        .salt = "salt",
                                                        .after_sequence = after});
    return std::pair(summary, read_text_file(dir_ / "out.jsonl"));
  };
  const auto [from_files, file_records] = sanitize(dir_ / "files.jsonl");
  const Json file_report = read_ordered_json(dir_ / "report.json");
  const auto [from_store, records] = sanitize(path());  // while the collector has it open
  const Json report = read_ordered_json(dir_ / "report.json");
  EXPECT_EQ(records, file_records);
  EXPECT_EQ(from_store.counts, from_files.counts);
  EXPECT_EQ(from_store.last_sequence, store_->count());
  ASSERT_EQ(report["files"].size(), file_report["files"].size());
  for (std::size_t i = 0; i < report["files"].size(); ++i) {
    EXPECT_EQ(report["files"][i]["reasons"], file_report["files"][i]["reasons"]);
    EXPECT_EQ(report["files"][i]["line"], file_report["files"][i]["line"]);
  }

  // Only what came later.
  EXPECT_EQ(exchange(studio_post(numbered_snapshot(7))).status, 200);
  const auto [later, later_records] = sanitize(path(), from_store.last_sequence);
  EXPECT_EQ(later.accepted(), 1);
  EXPECT_THAT(later_records, HasSubstr(sha256_hex("salt" + snapshot_id(7))));
  EXPECT_THROW(sanitize(dir_ / "files.jsonl", 1), UsageError);
}

// Records that something else has put into the store are refused, and named by their number.
TEST_F(IngestProtocol, SanitizingAStoreChecksItsRecords) {
  std::string good;
  append_record(parse(numbered_snapshot(2)).record, good);
  good.pop_back();
  {
    SnapshotStore store(path(), StoreAccess::kWrite);
    const auto row = [](int number, std::string record) {
      return StoredSnapshot{.id = snapshot_id(number), .record = std::move(record)};
    };
    store.insert(std::vector<StoredSnapshot>{
        row(1, good), row(2, good), row(3, ""),
        row(4, fmt::format("{{\"id\":\"{}\",\"a\":1}}", snapshot_id(4)))});
  }
  const SanitizeSummary summary = sanitize_snapshots(
      {.input = path(), .output = dir_ / "out.jsonl", .report = dir_ / "report.json"});
  EXPECT_EQ(summary.accepted(), 1);
  EXPECT_EQ(summary.count(Verdict::kReject), 3);
  const Json files = read_ordered_json(dir_ / "report.json")["files"];
  ASSERT_EQ(files.size(), 4U);
  for (const auto& [index, reason] :
       {std::pair(0, "id: the record in the store has another one"),
        {2, "id: the record in the store has another one"},
        {3, "record has a field that sanitised records do not have"}}) {
    EXPECT_EQ(files[static_cast<std::size_t>(index)]["verdict"], "reject");
    EXPECT_EQ(files[static_cast<std::size_t>(index)]["line"], index + 1);
    EXPECT_THAT(files[static_cast<std::size_t>(index)]["reasons"][0].get<std::string>(),
                HasSubstr(reason));
  }
}

}  // namespace
}  // namespace stemfabric::test
