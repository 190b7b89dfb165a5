// `stemfabric ingest`: the snapshot collector as a program, and what is done to its store without
// it. Usage and protocol: docs/ingest.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "trainer/ingest/collector.h"
#include "trainer/ingest/http_server.h"

namespace stemfabric {

struct IngestOptions {
  HttpServerOptions http;
  CollectorOptions collector;
  SnapshotWriter::Limits writer;
  std::filesystem::path store;       // made if it is not there
  std::filesystem::path token_file;  // sets collector.token; empty = none
};

struct IngestEnd {
  std::string signal;  // that stopped it
  int64_t stored = 0;  // snapshots in the store
};

// Serves until SIGTERM or SIGINT arrives; then answers what is under way and returns. A second
// signal ends the process; nothing that was acknowledged is lost. `listening` is told the address
// ("http://127.0.0.1:8787") once connections are accepted.
IngestEnd run_ingest(const IngestOptions& options,
                     const std::function<void(const std::string&)>& listening);

struct PurgeOptions {
  std::filesystem::path store;
  std::vector<std::string> ids;                         // UUIDs
  std::optional<std::chrono::milliseconds> older_than;  // by time of arrival; 0 = all
};
struct PurgeResult {
  int64_t by_age = 0;
  int64_t by_id = 0;
  std::vector<std::string> unknown_ids;
  int64_t left = 0;          // snapshots in the store
  bool log_cleared = false;  // false: another program is reading; its checkpoint clears the log
};
// Beside a running collector, too. InputError if there is no store.
PurgeResult purge_snapshots(const PurgeOptions& options);

}  // namespace stemfabric
