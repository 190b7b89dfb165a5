// The collector as a process: its port, its death, its end, and what the other commands make of
// its store.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "runtime/io/file.h"
#include "tests/integration/stemfabric.h"
#include "tests/support/http_client.h"
#include "tests/support/wait_until.h"
#include "trainer/ingest/snapshot_store.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using testing::HasSubstr;

std::string id_of(int client, int number) {
  return fmt::format("00000000-0000-4000-{:04x}-{:012x}", client, number);
}

// A real snapshot under another id.
std::string snapshot_with(const std::string& id) {
  static const std::string kText = read_text_file(data_dir() / "snapshots" / "s14_quiet_room.json");
  static const std::size_t kAt = kText.find(Json::parse(kText)["id"].get<std::string>());
  std::string text = kText;
  return text.replace(kAt, id.size(), id);
}

std::string post(const std::string& id) {
  return http_request("POST", "/stem-separation",
                      {"Content-Type: application/json", "X-Prime-Fabric-Channel: stem-separation"},
                      snapshot_with(id));
}

// A running collector; its port is read from what it prints, here to a file.
class RunningIngest {
 public:
  explicit RunningIngest(const fs::path& store, const std::vector<std::string>& more = {})
      : process_(argv(store, more)) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (std::chrono::steady_clock::now() < deadline && process_.running()) {
      const std::string out = output();
      if (const std::size_t end = out.find('\n'); end != std::string::npos) {
        port_ = static_cast<uint16_t>(std::stoi(out.substr(out.rfind(':', end) + 1)));
        return;
      }
      std::this_thread::yield();
    }
    throw std::runtime_error("the collector did not start: " + process_.wait().err);
  }
  uint16_t port() const { return port_; }
  Process& process() { return process_; }
  std::string output() const {
    std::ifstream file(folder_ / "out");
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::vector<std::string> argv(const fs::path& store, const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"/bin/sh", "-c", "out=$1; shift; exec \"$@\" > \"$out\"", "sh",
                                     (folder_ / "out").string()};
    for (const std::string& arg :
         stemfabric_argv({"ingest", "--listen", "127.0.0.1:0", "--store", store.string()})) {
      args.push_back(arg);
    }
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  TempDir folder_;
  Process process_;
  uint16_t port_ = 0;
};

std::set<std::string> ids_in(const fs::path& path) {
  SnapshotStore store(path, StoreAccess::kRead);
  std::set<std::string> ids;
  int64_t sequence = 0;
  for (;;) {
    const auto block = store.read_after(sequence, 1 << 20);
    if (block.empty()) {
      return ids;
    }
    for (const StoredSnapshot& one : block) {
      EXPECT_TRUE(ids.insert(one.id).second) << "twice: " << one.id;
    }
    sequence = block.back().sequence;
  }
}

// Posts until the collector dies; returns the ids that were acknowledged.
std::vector<std::string> post_until_it_dies(uint16_t port, int client,
                                            std::atomic<int>& acknowledged) {
  std::vector<std::string> mine;
  HttpClient connection(port);
  for (int number = 0;; ++number) {
    if (!connection.send(post(id_of(client, number))) || connection.receive().status != 200) {
      return mine;
    }
    mine.push_back(id_of(client, number));
    ++acknowledged;
  }
}

TEST(Ingest, KilledUnderLoadItKeepsWhatItAcknowledged) {
  const TempDir dir;
  const fs::path path = dir / "store.db";
  constexpr int kClients = 4;
  std::vector<std::vector<std::string>> acknowledged(kClients);
  {
    RunningIngest ingest(path);
    std::atomic<int> count{0};
    std::vector<std::thread> clients;
    for (int c = 0; c < kClients; ++c) {
      clients.emplace_back([&, c] {
        acknowledged[static_cast<std::size_t>(c)] = post_until_it_dies(ingest.port(), c, count);
      });
    }
    const bool loaded = wait_until([&] { return count >= 60; });
    ingest.process().signal(SIGKILL);
    for (std::thread& client : clients) {
      client.join();
    }
    ASSERT_TRUE(loaded);
  }
  // It goes on where it was; the clients send again what they have no answer for.
  RunningIngest ingest(path);
  std::set<std::string> sent;
  for (int c = 0; c < kClients; ++c) {
    const auto& mine = acknowledged[static_cast<std::size_t>(c)];
    sent.insert(mine.begin(), mine.end());
    const std::string unanswered = id_of(c, static_cast<int>(mine.size()));
    EXPECT_EQ(HttpClient(ingest.port()).exchange(post(unanswered)).status, 200);
    sent.insert(unanswered);
  }
  EXPECT_GE(sent.size(), 60U);
  EXPECT_EQ(ids_in(path), sent);  // count in = count out

  ingest.process().signal(SIGTERM);
  const ProcessResult end = ingest.process().wait();
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_THAT(ingest.output(),
              HasSubstr(fmt::format("Stopped by SIGTERM; {} snapshots are in", sent.size())));
  EXPECT_FALSE(fs::exists(path.string() + "-wal"));  // all is in the one file
}

TEST(Ingest, StoreToRecordsAndPurge) {
  const TempDir dir;
  const fs::path path = dir / "folder" / "store.db";
  {
    RunningIngest ingest(path);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(HttpClient(ingest.port()).exchange(post(id_of(0, i))).status, 200);
    }
    // Beside the running collector.
    const ProcessResult purge = run_stemfabric(
        {"ingest", "--store", path.string(), "--purge-id", id_of(0, 1), "--purge-id", id_of(9, 9)});
    EXPECT_EQ(purge.status, 0) << purge.err;
    EXPECT_THAT(purge.out, HasSubstr("0 snapshots purged by age, 1 by id; 2 are left"));
    EXPECT_THAT(purge.err, HasSubstr(id_of(9, 9)));
    const auto answer = HttpClient(ingest.port()).exchange(post(id_of(0, 0)));
    EXPECT_EQ(Json::parse(answer.body)["count"], 2);
    ingest.process().signal(SIGINT);
    EXPECT_EQ(ingest.process().wait().status, 0);
  }
  const std::vector<std::string> sanitize = {"sanitize", "--input", path.string(), "--output",
                                             (dir / "r.jsonl").string()};
  const ProcessResult all = run_stemfabric(sanitize);
  EXPECT_EQ(all.status, 0) << all.err;
  EXPECT_THAT(all.out, HasSubstr("2 accepted"));
  EXPECT_THAT(all.out, HasSubstr("--after-sequence 3\n"));
  std::vector<std::string> later = sanitize;
  later.insert(later.end(), {"--after-sequence", "3"});
  const ProcessResult none = run_stemfabric(later);
  EXPECT_EQ(none.status, 3);
  EXPECT_THAT(none.err, HasSubstr("no snapshot that arrived after number 3"));

  const ProcessResult young =
      run_stemfabric({"ingest", "--store", path.string(), "--purge-older-than", "1"});
  EXPECT_THAT(young.out, HasSubstr("0 snapshots purged by age, 0 by id; 2 are left"));
  const ProcessResult old =
      run_stemfabric({"ingest", "--store", path.string(), "--purge-older-than", "0"});
  EXPECT_THAT(old.out, HasSubstr("2 snapshots purged by age, 0 by id; 0 are left"));
}

TEST(Ingest, ClientRateIsPassedOn) {
  const TempDir dir;
  RunningIngest ingest(dir / "store.db", {"--client-rate", "1"});
  EXPECT_EQ(HttpClient(ingest.port()).exchange(post(id_of(0, 0))).status, 200);
  EXPECT_EQ(HttpClient(ingest.port()).exchange(post(id_of(0, 1))).status, 429);
  EXPECT_EQ(ids_in(dir / "store.db"), (std::set<std::string>{id_of(0, 0)}));
}

TEST(Ingest, HelpSaysWhatTheNumbersAre) {
  const std::string help = run_stemfabric({"ingest", "--help"}).out;
  EXPECT_THAT(help, HasSubstr("--purge-older-than DAYS in [0 - 36500]"));
  EXPECT_THAT(help, HasSubstr("--threads INT in [1 - 256]"));
}

TEST(Ingest, WrongUse) {
  const TempDir dir;
  put_file(dir / "text", "two words\n");
  put_file(dir / "token", "one\n");
  const std::string store = (dir / "s.db").string();
  const auto expect = [&](std::vector<std::string> args, int status, const std::string& text) {
    args.insert(args.begin(), "ingest");
    const ProcessResult result = run_stemfabric(args);
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_THAT(result.err, HasSubstr(text));
  };
  expect({}, 2, "--store");
  for (const char* address : {"8787", "localhost", ":1", "127.0.0.1:", "127.0.0.1:70000", "::1:80",
                              "127.0.0.1:80x", "127.0.0.1:-1"}) {
    expect({"--store", store, "--listen", address}, 2, "is no HOST:PORT");
  }
  expect({"--store", store, "--listen", "192.0.2.1:8787"}, 1, "192.0.2.1:8787: cannot listen");
  expect({"--store", store, "--token-file", (dir / "text").string()}, 3,
         "must hold the token alone");
  expect({"--store", store, "--tls-key", (dir / "text").string()}, 2, "belong together");
  expect({"--store", store, "--tls-key", (dir / "text").string(), "--tls-certificate",
          (dir / "text").string()},
         3, "no certificate chain");
  expect({"--store", (dir / "text").string(), "--listen", "127.0.0.1:0"}, 3, "text");
  expect({"--store", (dir / "none.db").string(), "--purge-id", id_of(0, 0)}, 3, "no such file");
  EXPECT_FALSE(fs::exists(dir / "none.db"));
}

TEST(Ingest, TlsWithTheSystemsOwnClient) {
  const TempDir dir;
  const std::string key = (dir / "key.pem").string();
  const std::string certificate = (dir / "certificate.pem").string();
  if (!fs::exists("/usr/bin/openssl") || !fs::exists("/usr/bin/curl")) {
    GTEST_SKIP() << "TLS is not tested: needs /usr/bin/openssl and /usr/bin/curl";
  }
  const ProcessResult made = run_process({"/usr/bin/openssl", "req", "-x509", "-newkey", "ec",
                                          "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                                          "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                                          "-days", "2", "-keyout", key, "-out", certificate});
  ASSERT_EQ(made.status, 0) << made.err;
  RunningIngest ingest(dir / "store.db", {"--tls-certificate", certificate, "--tls-key", key});
  put_file(dir / "body.json", snapshot_with(id_of(0, 0)));
  const ProcessResult posted =
      run_process({"/usr/bin/curl", "--silent", "--show-error", "--noproxy", "*", "--cacert",
                   certificate, "--max-time", "60", "--header", "Content-Type: application/json",
                   "--data-binary", fmt::format("@{}", (dir / "body.json").string()),
                   fmt::format("https://127.0.0.1:{}/", ingest.port())});
  EXPECT_EQ(posted.status, 0) << posted.err;
  EXPECT_EQ(Json::parse(posted.out)["id"], id_of(0, 0));
  // Who speaks plain HTTP there gets nothing, and disturbs nobody.
  EXPECT_EQ(HttpClient(ingest.port()).exchange(http_request("GET", "/healthz", {})).status, 0);
  ingest.process().signal(SIGTERM);
  EXPECT_EQ(ingest.process().wait().status, 0);
}

// The real browser: preflight, fetch and sendBeacon of a page from elsewhere.
TEST(Ingest, ChromiumSendsAsTheStudioDoes) {
  if (!fs::exists("/usr/bin/chromium")) {
    GTEST_SKIP() << "the browser's side is not tested: needs /usr/bin/chromium";
  }
  constexpr const char* kPage = R"(<!doctype html><pre id="result">waiting</pre><script>
const base = "http://127.0.0.1:{port}";
const body = id => JSON.stringify(Object.assign({snapshot}, {{id}}));
(async () => {{
  const answer = await fetch(base + "/stem-separation", {{method: "POST", body: body("{first}"),
    headers: {{"Content-Type": "application/json", "X-Prime-Fabric-Channel": "stem-separation"}}}});
  const text = await answer.text();
  const queued = navigator.sendBeacon(base + "/", body("{second}"));
  while (!(await (await fetch(base + "/metrics")).text()).includes("ingest_stored 2\n")) {{}}
  return [answer.status, text.trim(), queued].join(" ");
}})().catch(String).then(text => document.getElementById("result").textContent = text);
</script>)";
  const TempDir dir;
  RunningIngest ingest(dir / "store.db");
  put_file(dir / "page.html",
           fmt::format(kPage, fmt::arg("port", ingest.port()), fmt::arg("first", id_of(0, 1)),
                       fmt::arg("second", id_of(0, 2)),
                       fmt::arg("snapshot", read_text_file(data_dir() / "bad_snapshots" /
                                                           "valid_control.json"))));
  const ProcessResult browser =
      run_process({"/usr/bin/timeout", "300", "/usr/bin/chromium", "--headless", "--no-sandbox",
                   "--disable-gpu", "--virtual-time-budget=60000", "--dump-dom",
                   fmt::format("--user-data-dir={}", (dir / "profile").string()),
                   fmt::format("file://{}", (dir / "page.html").string())});
  EXPECT_THAT(browser.out,
              HasSubstr(fmt::format("<pre id=\"result\">200 {{\"success\":true,\"id\":\"{}\","
                                    "\"count\":1}} true</pre>",
                                    id_of(0, 1))))
      << browser.err;
  EXPECT_EQ(ids_in(dir / "store.db"), (std::set<std::string>{id_of(0, 1), id_of(0, 2)}));
}

}  // namespace
}  // namespace stemfabric::test
