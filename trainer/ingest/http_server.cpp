#include "trainer/ingest/http_server.h"

#include "trainer/ingest/http_session-inl.h"

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/log.h"

namespace stemfabric {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds kAcceptPause{100};  // without descriptors: not in a spin

constexpr int kMaxLingering = 32;

// The answer to one connection too many, ready to send.
const std::string& full() {
  static const std::string kAnswer = fmt::format(
      "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {}\r\nContent-Length: 0\r\n"
      "Connection: close\r\n\r\n",
      kRetryAfter);
  return kAnswer;
}

// A connection that was answered and sends on. It is closed once its client has ended it, or when
// its time is over: closed with unread bytes it would be reset, and the client might lose the
// answer.
class Lingering : public std::enable_shared_from_this<Lingering> {
 public:
  Lingering(tcp::socket socket, std::atomic<int>& number)
      : socket_(std::move(socket)), timer_(socket_.get_executor()), number_(number) {
    ++number_;
  }
  ~Lingering() { --number_; }
  Lingering(const Lingering&) = delete;
  Lingering& operator=(const Lingering&) = delete;

  void start(std::chrono::milliseconds time) {
    timer_.expires_after(time);
    timer_.async_wait([self = shared_from_this()](error_code) {
      error_code ignored;
      self->socket_.close(ignored);
    });
    discard();
  }

 private:
  void discard() {
    socket_.async_read_some(asio::buffer(discarded_),
                            [self = shared_from_this()](error_code ec, std::size_t) {
                              ec ? static_cast<void>(self->timer_.cancel()) : self->discard();
                            });
  }

  tcp::socket socket_;
  asio::steady_timer timer_;
  std::atomic<int>& number_;
  std::array<char, 16384> discarded_{};
};

tcp::acceptor listen(asio::io_context& context, const HttpServerOptions& options) {
  const auto fail = [&](const error_code& ec) {
    throw IoError("{}:{}: cannot listen ({}); give another --listen HOST:PORT", options.host,
                  options.port, ec.message());
  };
  error_code ec;
  tcp::resolver resolver(context);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, ec);
  if (ec || found.empty()) {
    fail(ec);
  }
  tcp::acceptor acceptor(context);
  const tcp::endpoint endpoint = *found.begin();
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) {
    acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  }
  if (!ec) {
    acceptor.bind(endpoint, ec);
  }
  if (!ec) {
    acceptor.listen(asio::socket_base::max_listen_connections, ec);
  }
  if (ec) {
    fail(ec);
  }
  return acceptor;
}

std::optional<asio::ssl::context> tls_context(const HttpServerOptions& options) {
  if (options.tls_certificate.empty()) {
    return std::nullopt;
  }
  asio::ssl::context context(asio::ssl::context::tls_server);
  context.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                      asio::ssl::context::no_tlsv1_1);
  error_code ec;
  context.use_certificate_chain_file(options.tls_certificate.string(), ec);
  if (ec) {
    throw InputError("{}: no certificate chain in PEM can be read from it ({})",
                     options.tls_certificate.string(), ec.message());
  }
  context.use_private_key_file(options.tls_key.string(), asio::ssl::context::pem, ec);
  if (ec) {
    throw InputError("{}: no private key in PEM that belongs to {} can be read from it ({})",
                     options.tls_key.string(), options.tls_certificate.string(), ec.message());
  }
  return context;
}

}  // namespace

struct HttpServer::State {
  HttpServerOptions options;
  http::Shared shared;
  std::atomic<int> lingering{0};
  std::optional<asio::ssl::context> tls;
  std::vector<std::unique_ptr<http::Worker>> workers;
  std::size_t next_worker = 0;
  std::optional<tcp::acceptor> acceptor;  // on the first worker's thread
  std::optional<asio::steady_timer> accept_pause;
  std::vector<std::thread> threads;
  uint16_t port = 0;

  State(const HttpServerOptions& given, Collector& collector, IngestMetrics& metrics)
      : options(given), shared{options, collector, metrics}, tls(tls_context(options)) {
    for (int i = 0; i < options.threads; ++i) {
      workers.push_back(std::make_unique<http::Worker>(shared));
    }
    acceptor.emplace(listen(workers[0]->context, options));
    port = acceptor->local_endpoint().port();
    accept_pause.emplace(workers[0]->context);
    accept();
    for (const auto& worker : workers) {
      threads.emplace_back([context = &worker->context] { context->run(); });
    }
  }

  void accept() {
    http::Worker& worker = *workers[next_worker++ % workers.size()];
    acceptor->async_accept(worker.context, [this, &worker](error_code ec, tcp::socket socket) {
      if (!acceptor->is_open()) {
        return;
      }
      if (ec) {
        pause(ec);
        return;
      }
      take(worker, std::move(socket));
      accept();
    });
  }

  // No descriptors or memory left, most likely: connections that end will give some back.
  void pause(error_code ec) {
    log_warning("a connection could not be accepted ({})", ec.message());
    accept_pause->expires_after(kAcceptPause);
    accept_pause->async_wait([this](error_code) {
      if (acceptor->is_open()) {
        accept();
      }
    });
  }

  void take(http::Worker& worker, tcp::socket socket) {
    error_code ignored;
    if (shared.metrics.connections.load(std::memory_order_relaxed) >= options.max_connections) {
      shared.metrics.connections_refused.fetch_add(1, std::memory_order_relaxed);
      refuse(worker, std::move(socket));
      return;
    }
    shared.metrics.connections.fetch_add(1, std::memory_order_relaxed);
    socket.set_option(tcp::no_delay(true), ignored);
    asio::post(worker.context, [this, &worker, socket = std::move(socket)]() mutable {
      http::start_session(worker, std::move(socket), tls ? &*tls : nullptr);
    });
  }

  // Over TLS without an answer: it would take a handshake.
  void refuse(http::Worker& worker, tcp::socket socket) {
    if (tls) {
      return;
    }
    error_code ignored;
    socket.non_blocking(true, ignored);
    socket.send(asio::buffer(full()), 0, ignored);
    socket.shutdown(tcp::socket::shutdown_send, ignored);
    if (lingering >= kMaxLingering) {
      return;
    }
    asio::post(worker.context,
               [&worker, rest = std::make_shared<Lingering>(std::move(socket), lingering)] {
                 if (!worker.stopping) {
                   rest->start(worker.shared.options.drain_timeout);
                 }
               });
  }

  // On the worker's thread.
  void stop_worker(http::Worker& worker) {
    if (&worker == workers[0].get()) {
      error_code ignored;
      acceptor->close(ignored);
      accept_pause->cancel();
    }
    worker.stop();
  }
};

HttpServer::HttpServer(const HttpServerOptions& options, Collector& collector,
                       IngestMetrics& metrics)
    : state_(std::make_unique<State>(options, collector, metrics)) {}

HttpServer::~HttpServer() { stop(); }

uint16_t HttpServer::port() const { return state_->port; }

void HttpServer::stop() {
  State& s = *state_;
  if (s.threads.empty()) {
    return;
  }
  for (const auto& worker : s.workers) {
    asio::post(worker->context, [&s, &worker = *worker] { s.stop_worker(worker); });
  }
  for (std::thread& thread : s.threads) {
    thread.join();
  }
  s.threads.clear();
  // Connections that were accepted for a worker which had already ended.
  for (const auto& worker : s.workers) {
    worker->context.restart();
    worker->context.poll();
  }
}

}  // namespace stemfabric
