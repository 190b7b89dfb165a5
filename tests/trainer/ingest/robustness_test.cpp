// Clients that are slow, greedy, broken or many, a disk that is busy or full, and the end.
#include <gmock/gmock.h>
#include <sqlite3.h>

#include <thread>

#include "runtime/core/check.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/mutations.h"
#include "tests/support/wait_until.h"
#include "tests/trainer/ingest/ingest_server.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

class IngestRobustness : public IngestServer {};

TEST_F(IngestRobustness, PipelinedRequestsAreAnsweredInOrder) {
  begin();
  HttpClient client(port());
  std::string requests;
  for (int i = 0; i < 20; ++i) {
    requests += studio_post(i == 7 ? "{}" : numbered_snapshot(i));
  }
  requests += http_request("GET", "/healthz", {"Connection: close"});
  ASSERT_TRUE(client.send(requests));
  for (int i = 0; i < 20; ++i) {
    const HttpResponse answer = client.receive();
    EXPECT_EQ(answer.status, i == 7 ? 400 : 200);
    EXPECT_EQ(Json::parse(answer.body).value("id", ""), i == 7 ? "" : snapshot_id(i));
  }
  EXPECT_EQ(client.receive().status, 200);
  EXPECT_TRUE(client.ends());
}

TEST_F(IngestRobustness, RequestsInSmallPieces) {
  begin();
  HttpClient client(port());
  const std::string request = studio_post(numbered_snapshot(1));
  const std::size_t head = request.find("\r\n\r\n") + 4;
  for (std::size_t at = 0; at < request.size();) {
    const std::size_t size = at < head ? 7 : 1500;
    ASSERT_TRUE(client.send(request.substr(at, size)));
    at += size;
  }
  EXPECT_EQ(client.receive().status, 200);
}

TEST_F(IngestRobustness, ContinuesWhenAsked) {
  begin();
  HttpClient client(port());
  const std::string body = numbered_snapshot(1);
  const std::string head = fmt::format(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nExpect: 100-continue\r\n"
      "Content-Length: {}\r\n\r\n",
      body.size());
  EXPECT_EQ(client.exchange(head).status, 100);
  EXPECT_EQ(client.exchange(body).status, 200);
  // Refused before anything is sent.
  std::string refused = head;
  refused.replace(refused.find("text/plain"), 10, "image/jpeg");
  EXPECT_EQ(client.exchange(refused).status, 415);
}

TEST_F(IngestRobustness, SlowClientsAreCutOff) {
  http_options_.idle_timeout = milliseconds(200);
  http_options_.head_timeout = milliseconds(200);
  http_options_.body_timeout = milliseconds(200);
  begin();
  HttpClient silent(port());
  HttpClient slow_head(port());
  HttpClient slow_body(port());
  ASSERT_TRUE(slow_head.send("GET /healthz HTTP/1.1\r\nHost: a\r\nX-"));
  ASSERT_TRUE(slow_body.send(studio_post(numbered_snapshot(1)).substr(0, 600)));
  EXPECT_TRUE(silent.ends());
  EXPECT_TRUE(slow_head.ends());
  EXPECT_TRUE(slow_body.ends());
  ASSERT_TRUE(wait_until(
      [this] { return metrics_.timeouts >= 3; }));  // counted after the connection is closed
  EXPECT_EQ(store_->count(), 0);
}

TEST_F(IngestRobustness, ConnectionsBeyondTheLimit) {
  http_options_.max_connections = 2;
  http_options_.drain_timeout = std::chrono::minutes(1);
  begin();
  HttpClient one(port());
  HttpClient two(port());
  const std::string request = http_request("GET", "/healthz", {});
  EXPECT_EQ(one.exchange(request).status, 200);
  EXPECT_EQ(two.exchange(request).status, 200);
  HttpClient three(port());
  EXPECT_TRUE(three.send(studio_post(std::string(1 << 20, ' '))));  // no reset in between
  const HttpResponse refused = three.receive();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.field("retry-after"), "2");
  EXPECT_TRUE(three.ends());
  EXPECT_EQ(one.exchange(request).status, 200);
}

// Another program holds the store, as a busy disk would.
class BusyStore {
 public:
  explicit BusyStore(const fs::path& path) {
    SF_CHECK(sqlite3_open(path.c_str(), &database_) == SQLITE_OK);
    SF_CHECK(sqlite3_exec(database_, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK);
  }
  ~BusyStore() { sqlite3_close(database_); }
  BusyStore(const BusyStore&) = delete;
  BusyStore& operator=(const BusyStore&) = delete;

 private:
  sqlite3* database_ = nullptr;
};

TEST_F(IngestRobustness, QueueBeyondTheLimit) {
  limits_.queued_bytes = 1;
  begin();
  HttpClient first(port());
  {
    const BusyStore busy(path());
    ASSERT_TRUE(first.send(studio_post(numbered_snapshot(1))));
    ASSERT_TRUE(wait_until([this] { return metrics_.waiting > 0; }));
    const HttpResponse second = exchange(studio_post(numbered_snapshot(2)));
    EXPECT_EQ(second.status, 429);
    EXPECT_EQ(second.field("retry-after"), "2");
  }
  EXPECT_EQ(first.receive().status, 200);
  EXPECT_EQ(exchange(studio_post(numbered_snapshot(2))).status, 200);
}

TEST_F(IngestRobustness, BodiesBeyondTheMemory) {
  http_options_.max_body_memory = 200000;
  begin();
  HttpClient slow(port());
  const std::string request = studio_post(std::string(90000, ' '));
  ASSERT_TRUE(slow.send(request.substr(0, request.size() - 10)));
  ASSERT_TRUE(wait_until([this] { return metrics_.arriving_bytes == 90000; }));
  // Refused when half of it is there, which counts no longer then.
  HttpClient second(port());
  const HttpResponse refused = second.exchange(studio_post(std::string(180000, ' ')));
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.field("retry-after"), "2");
  EXPECT_EQ(metrics_.arriving_bytes.load(), 90000);
  ASSERT_TRUE(slow.send(std::string(10, ' ')));
  EXPECT_EQ(slow.receive().status, 400);
  EXPECT_EQ(exchange(studio_post(numbered_snapshot(1))).status, 200);
}

TEST_F(IngestRobustness, HeadsWithoutBodiesTakeLittleMemory) {
  http_options_.max_body_memory = 2 << 20;
  begin();
  constexpr int kStalled = 100;
  const std::string request = studio_post(std::string(1000000, ' '));
  const std::string head = request.substr(0, request.find("\r\n\r\n") + 4);
  std::vector<std::unique_ptr<HttpClient>> stalled;
  for (int i = 0; i < kStalled; ++i) {
    stalled.push_back(std::make_unique<HttpClient>(port()));
    ASSERT_TRUE(stalled.back()->send(head));
  }
  ASSERT_TRUE(wait_until([this] { return metrics_.arriving_bytes == kStalled * 4096; }));
  EXPECT_EQ(exchange(studio_post(numbered_snapshot(1))).status, 200);
}

TEST_F(IngestRobustness, FullDisk) {
  begin();
  EXPECT_EQ(exchange(studio_post(numbered_snapshot(1))).status, 200);
  {
    const FileSizeLimit full(fs::file_size(path().string() + "-wal") + 100);
    const HttpResponse refused = exchange(studio_post(numbered_snapshot(2)));
    EXPECT_EQ(refused.status, 503);
    EXPECT_EQ(refused.field("retry-after"), "2");
    EXPECT_EQ(exchange(http_request("GET", "/healthz", {})).status, 503);
  }
  // It notices by itself that there is room again.
  ASSERT_TRUE(
      wait_until([this] { return exchange(http_request("GET", "/healthz", {})).status == 200; }));
  const HttpResponse again = exchange(studio_post(numbered_snapshot(2)));
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(Json::parse(again.body)["count"], 2);
}

TEST_F(IngestRobustness, OldSnapshotsArePurgedWhileItRuns) {
  {
    SnapshotStore before(path(), StoreAccess::kWrite);
    before.insert(std::vector<StoredSnapshot>{
        {.received = 1000, .id = snapshot_id(1), .repairs = "", .record = "old"}});
  }
  limits_.retain = std::chrono::hours(24);
  begin();
  ASSERT_TRUE(wait_until([this] { return metrics_.purged > 0; }));
  const HttpResponse answer = exchange(studio_post(numbered_snapshot(2)));
  EXPECT_EQ(Json::parse(answer.body)["count"], 1);
  // Its log is cleared by now, without waiting for others; a snapshot does wait for them.
  HttpClient client(port());
  {
    const BusyStore busy(path());
    ASSERT_TRUE(client.send(studio_post(numbered_snapshot(3))));
    ASSERT_TRUE(wait_until([this] { return metrics_.waiting > 0; }));
  }
  EXPECT_EQ(client.receive().status, 200);
}

TEST_F(IngestRobustness, DamagedRequests) {
  begin();
  const std::string request = studio_post(numbered_snapshot(1));
  int answered = 0;
  for (int round = 0; round < 300; ++round) {
    HttpClient client(port());
    client.send(mutated(request, 1, round));
    client.finish();
    const HttpResponse answer = client.receive();
    answered += answer.status > 0 ? 1 : 0;
    if (answer.status > 200) {
      EXPECT_EQ(Json::parse(answer.body)["success"], false);
    }
    EXPECT_LT(answer.status, 500);
  }
  EXPECT_GT(answered, 100);
  expect_alive();
}

TEST_F(IngestRobustness, RequestsUnderWayAreAnsweredAtTheEnd) {
  begin();
  HttpClient idle(port());
  EXPECT_EQ(idle.exchange(http_request("GET", "/healthz", {})).status, 200);
  auto busy = std::make_unique<HttpClient>(port());
  const std::string request = studio_post(numbered_snapshot(1));
  const std::size_t half = request.size() / 2;
  ASSERT_TRUE(busy->send(request.substr(0, half)));
  ASSERT_TRUE(wait_until([this] { return metrics_.arriving_bytes > 0; }));
  std::thread stopper([this] { server_->stop(); });
  EXPECT_TRUE(idle.ends());
  ASSERT_TRUE(busy->send(request.substr(half)));
  const HttpResponse answer = busy->receive();
  busy.reset();
  stopper.join();
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.field("connection"), "close");
  EXPECT_EQ(store_->count(), 1);
}

TEST_F(IngestRobustness, TheEndDoesNotWaitForEver) {
  http_options_.drain_timeout = milliseconds(100);
  begin();
  HttpClient stuck(port());
  ASSERT_TRUE(stuck.send("GET /healthz HTTP/1.1\r\n"));
  expect_alive();
  server_->stop();
  EXPECT_TRUE(stuck.ends());
}

}  // namespace
}  // namespace stemfabric::test
