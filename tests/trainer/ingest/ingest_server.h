// A collector in this process, on a port of its own.
#pragma once

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/log.h"
#include "tests/support/http_client.h"
#include "tests/trainer/snapshot/snapshot_files.h"
#include "trainer/ingest/collector.h"
#include "trainer/ingest/http_server.h"

namespace stemfabric::test {

inline std::string snapshot_id(int number) {
  return fmt::format("00000000-0000-4000-8000-{:012}", number);
}
inline std::string numbered_snapshot(int number) {
  return control_with([&](Json& s) { s["id"] = snapshot_id(number); });
}
// As the Studio's fetch sends it.
inline std::string studio_post(const std::string& body, const std::string& path = "/") {
  return http_request("POST", path,
                      {"Content-Type: application/json", "X-Prime-Fabric-Channel: stem-separation",
                       "Origin: https://studio.example"},
                      body);
}

class IngestServer : public testing::Test {
 protected:
  IngestServer() { set_log_level(LogLevel::kError); }
  ~IngestServer() override {
    end();
    set_log_level(LogLevel::kInfo);
  }

  void begin() {
    store_ = std::make_unique<SnapshotStore>(path(), StoreAccess::kWrite);
    writer_ = std::make_unique<SnapshotWriter>(*store_, limits_, metrics_);
    collector_ = std::make_unique<Collector>(collector_options_, *writer_, metrics_);
    server_ = std::make_unique<HttpServer>(http_options_, *collector_, metrics_);
  }
  void end() {
    server_.reset();
    collector_.reset();
    writer_.reset();
    store_.reset();
  }
  uint16_t port() const { return server_->port(); }
  std::filesystem::path path() const { return dir_ / "store.db"; }
  HttpResponse exchange(const std::string& request) const {
    return HttpClient(port()).exchange(request);
  }
  void expect_alive() const {
    EXPECT_EQ(exchange(http_request("GET", "/healthz", {})).status, 200);
  }

  TempDir dir_;
  IngestMetrics metrics_;
  SnapshotWriter::Limits limits_;
  CollectorOptions collector_options_;
  HttpServerOptions http_options_;
  std::unique_ptr<SnapshotStore> store_;
  std::unique_ptr<SnapshotWriter> writer_;
  std::unique_ptr<Collector> collector_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace stemfabric::test
