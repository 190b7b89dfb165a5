// What one connection and its thread have in common with the server. Internal to trainer/ingest: it
// includes Boost.Asio.
#pragma once

#include <utility>  // which Boost 1.74 forgets in C++20

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <array>
#include <atomic>
#include <optional>
#include <unordered_set>

#include "trainer/ingest/http_server.h"

namespace stemfabric::http {

// Bytes of bodies that are being read, over all threads.
class ByteBudget {
 public:
  explicit ByteBudget(uint64_t limit) : limit_(limit) {}
  bool take(uint64_t bytes) {
    if (used_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limit_) {
      return true;
    }
    give_back(bytes);
    return false;
  }
  void give_back(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

 private:
  uint64_t limit_;
  std::atomic<uint64_t> used_{0};
};

struct Shared {
  const HttpServerOptions& options;
  Collector& collector;
  IngestMetrics& metrics;
  ByteBudget bodies;
};

class Session {
 public:
  virtual ~Session() = default;
  virtual void stop() = 0;   // ends it once it is idle
  virtual void abort() = 0;  // closes its socket
};

// One thread with its connections; only that thread touches it, but for `context`.
struct Worker {
  explicit Worker(Shared& all) : shared(all), intake(all.collector) {}
  void forget(Session* session) {
    sessions.erase(session);
    end_if_done();
  }
  void end_if_done() {
    if (stopping && sessions.empty()) {
      work.reset();
      drain.reset();
    }
  }
  void stop() {
    stopping = true;
    drain.emplace(context, shared.options.drain_timeout);
    drain->async_wait([this](boost::system::error_code ec) {
      if (!ec) {
        each(&Session::abort);
      }
    });
    each(&Session::stop);
    end_if_done();
  }
  void each(void (Session::*action)()) {
    for (Session* session : sessions) {
      (session->*action)();
    }
  }

  Shared& shared;
  boost::asio::io_context context{1};
  std::optional<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>> work{
      context.get_executor()};
  Collector::Intake intake;
  std::unordered_set<Session*> sessions;
  std::optional<boost::asio::steady_timer> drain;
  std::array<char, 65536> discarded{};  // what refused requests go on sending
  bool stopping = false;
};

// On the worker's thread. `tls` may be null: plain HTTP.
void start_session(Worker& worker, boost::asio::ip::tcp::socket socket,
                   boost::asio::ssl::context* tls);

}  // namespace stemfabric::http
