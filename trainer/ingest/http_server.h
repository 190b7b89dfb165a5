// HTTP/1.1 over TCP or TLS for the collector: connections, time and size limits, graceful end. What
// is answered decides the Collector.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "trainer/ingest/collector.h"
#include "trainer/ingest/ingest_metrics.h"

namespace stemfabric {

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // address or name; "::" for all of IPv6 (and IPv4)
  uint16_t port = 0;               // 0: any free one
  int threads = 2;
  int64_t max_connections = 16384;                 // one more is answered 503 and closed
  uint64_t max_body_memory = 128ULL << 20;         // of all bodies being read; beyond it: 429
  std::filesystem::path tls_certificate;           // PEM, the chain; empty: plain HTTP
  std::filesystem::path tls_key;                   // PEM
  std::chrono::milliseconds idle_timeout{60000};   // for the first byte of a request
  std::chrono::milliseconds head_timeout{10000};   // for a head, from its first byte
  std::chrono::milliseconds body_timeout{60000};   // for a body
  std::chrono::milliseconds write_timeout{30000};  // for the client to take an answer
  std::chrono::milliseconds drain_timeout{10000};  // for requests under way when it stops
};

class HttpServer {
 public:
  // Listens and serves from threads of its own. IoError if the address cannot be bound, InputError
  // if certificate or key cannot be used.
  HttpServer(const HttpServerOptions& options, Collector& collector, IngestMetrics& metrics);
  ~HttpServer();  // stop()
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  // Accepts nothing more, closes idle connections, answers what is under way, then returns. The
  // writer must still be running.
  void stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
