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
#include <optional>
#include <unordered_set>

#include "trainer/ingest/http_server.h"

namespace stemfabric::http {

struct Shared {
  const HttpServerOptions& options;
  Collector& collector;
  IngestMetrics& metrics;

  // Memory for a body that is being read, of all threads' together.
  bool take_memory(std::size_t bytes) const {
    const auto more = static_cast<int64_t>(bytes);
    const int64_t used = metrics.arriving_bytes.fetch_add(more, std::memory_order_relaxed) + more;
    if (static_cast<uint64_t>(used) <= options.max_body_memory) {
      return true;
    }
    give_back_memory(bytes);
    return false;
  }
  void give_back_memory(std::size_t bytes) const {
    metrics.arriving_bytes.fetch_sub(static_cast<int64_t>(bytes), std::memory_order_relaxed);
  }
};

class Session {
 public:
  virtual ~Session() = default;
  virtual void stop() = 0;     // ends it once it is idle
  virtual void cut_off() = 0;  // closes its socket
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
        each(&Session::cut_off);
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
