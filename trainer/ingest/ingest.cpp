#include "trainer/ingest/ingest.h"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <thread>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "trainer/ingest/log_checkpointer.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxTokenFile = 4096;
constexpr int64_t kOwnDescriptors = 64;  // store, standard streams, libraries
constexpr int64_t kPurgeStep = 1000;
constexpr int kClearTries = 40;
constexpr std::chrono::milliseconds kClearPause{50};

// While it lives, SIGTERM and SIGINT wait for wait(); threads that start meanwhile inherit that.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, &previous_);
  }
  ~StopSignals() { release(); }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  std::string wait() const {
    int signal = 0;
    sigwait(&signals_, &signal);
    return signal == SIGTERM ? "SIGTERM" : "SIGINT";
  }
  // The next one acts as ever.
  void release() const { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }

 private:
  sigset_t signals_{};
  sigset_t previous_{};
};

// As many connections as descriptors allow.
int64_t connection_limit(int64_t wanted) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur == RLIM_INFINITY) {
    return wanted;
  }
  const int64_t possible =
      std::max<int64_t>(static_cast<int64_t>(limit.rlim_cur) - kOwnDescriptors, 1);
  if (possible < wanted) {
    log_warning("only {} connections at a time: `ulimit -n` is {}", possible, limit.rlim_cur);
  }
  return std::min(possible, wanted);
}

std::string read_token(const fs::path& path) {
  std::string token = read_text_file(path, kMaxTokenFile);
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r')) {
    token.pop_back();
  }
  const bool printable =
      std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (token.empty() || !printable) {
    throw InputError("{}: must hold the token alone: one line of ASCII without blanks",
                     path.string());
  }
  return token;
}

std::string address(const HttpServerOptions& options, uint16_t port) {
  const bool v6 = options.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", options.tls_certificate.empty() ? "http" : "https",
                     v6 ? "[" : "", options.host, v6 ? "]" : "", port);
}

}  // namespace

IngestEnd run_ingest(const IngestOptions& options,
                     const std::function<void(const std::string&)>& listening) {
  const StopSignals signals;
  HttpServerOptions http = options.http;
  http.max_connections = connection_limit(http.max_connections);
  CollectorOptions collector_options = options.collector;
  if (!options.token_file.empty()) {
    collector_options.token = read_token(options.token_file);
  }
  if (options.store.has_parent_path()) {
    make_directories(options.store.parent_path());
  }
  IngestMetrics metrics;
  SnapshotStore store(options.store, StoreAccess::kWrite);
  std::optional<LogCheckpointer> checkpointer(std::in_place, options.store);
  SnapshotWriter writer(store, options.writer, metrics);
  Collector collector(collector_options, writer, metrics);
  HttpServer server(http, collector, metrics);
  listening(address(http, server.port()));
  IngestEnd end{.signal = signals.wait()};
  signals.release();
  server.stop();
  writer.stop();
  checkpointer.reset();  // so that the store is the last to close, and leaves no log
  end.stored = store.count();
  return end;
}

PurgeResult purge_snapshots(const PurgeOptions& options) {
  if (!fs::exists(options.store)) {
    throw InputError("{}: no such file; give the store of an ingest", options.store.string());
  }
  SnapshotStore store(options.store, StoreAccess::kWrite);
  PurgeResult result;
  for (const std::string& id : options.ids) {
    if (store.purge_id(id)) {
      ++result.by_id;
    } else {
      result.unknown_ids.push_back(id);
    }
  }
  if (options.older_than) {
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::system_clock::now().time_since_epoch());
    int64_t purged = 0;
    do {
      purged = store.purge_received_before((now - *options.older_than).count(), kPurgeStep);
      result.by_age += purged;
    } while (purged == kPurgeStep);
  }
  // Another one that works on the log is done in a moment; one that reads may take its time.
  for (int i = 0; i < kClearTries && !result.log_cleared; ++i) {
    std::this_thread::sleep_for(i == 0 ? std::chrono::milliseconds(0) : kClearPause);
    result.log_cleared = store.truncate_log();
  }
  result.left = store.count();
  return result;
}

}  // namespace stemfabric
