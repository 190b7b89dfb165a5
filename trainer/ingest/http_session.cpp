#include "trainer/ingest/http_session-inl.h"

#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include <algorithm>
#include <ctime>
#include <limits>
#include <memory>
#include <type_traits>

#include "trainer/snapshot/input_files.h"

namespace stemfabric::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace protocol = boost::beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kMaxHead = 16 << 10;
constexpr std::size_t kReadBuffer = 2 * kMaxHead;
constexpr std::size_t kFirstRead = 1024;         // of a request: all that an idle connection holds
constexpr std::size_t kFirstBody = 4 << 10;      // a body's memory grows as it arrives, not as told
constexpr uint64_t kMaxDiscarded = 32ULL << 20;  // of a refused request
constexpr std::chrono::seconds kLinger{2};
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

std::string_view view(boost::string_view text) { return {text.data(), text.size()}; }

std::string http_date() {
  std::array<char, 40> text{};
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  return {text.data(),
          std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts)};
}

Client client_of(const asio::ip::tcp::socket& socket) {
  error_code ignored;  // of a client that has left
  const asio::ip::address address = socket.remote_endpoint(ignored).address();
  return stemfabric::client_of(
      (address.is_v4() ? asio::ip::make_address_v6(asio::ip::v4_mapped, address.to_v4())
                       : address.to_v6())
          .to_bytes());
}

template <typename Stream>
class Connection final : public Session, public std::enable_shared_from_this<Connection<Stream>> {
 public:
  template <typename... Args>
  explicit Connection(Worker& worker, Args&&... args)
      : worker_(worker), stream_(std::forward<Args>(args)...) {
    worker_.sessions.insert(this);
    metrics().connections_total.fetch_add(1, std::memory_order_relaxed);
  }
  ~Connection() override {
    give_back_body();
    metrics().connections.fetch_sub(1, std::memory_order_relaxed);
    worker_.forget(this);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start() {
    client_ = client_of(socket());
    if constexpr (kTls) {
      deadline(options().head_timeout);
      stream_.async_handshake(asio::ssl::stream_base::server, step([](auto& self, error_code ec) {
                                ec ? self.failed(ec) : self.await_request();
                              }));
    } else {
      await_request();
    }
  }

  void stop() override {
    if (idle_) {
      cut_off();
    }
  }
  void cut_off() override {
    error_code ignored;
    socket().close(ignored);
  }

 private:
  static constexpr bool kTls = !std::is_same_v<Stream, beast::tcp_stream>;

  const HttpServerOptions& options() const { return worker_.shared.options; }
  IngestMetrics& metrics() const { return worker_.shared.metrics; }
  asio::ip::tcp::socket& socket() { return beast::get_lowest_layer(stream_).socket(); }
  void deadline(std::chrono::milliseconds time) {
    beast::get_lowest_layer(stream_).expires_after(time);
  }
  // A completion handler that keeps the connection alive.
  template <typename F>
  auto step(F next) {
    return [self = this->shared_from_this(), next](error_code ec, auto&&... results) {
      next(*self, ec, results...);
    };
  }
  // What ends the connection without an answer: the client left, or was too slow (the stream has
  // closed the socket by then).
  void failed(error_code ec) {
    if (ec == beast::error::timeout) {
      metrics().timeouts.fetch_add(1, std::memory_order_relaxed);
    }
  }

  // --- A request: its first bytes, its head, its body ---

  void await_request() {
    if (buffer_.size() > 0) {  // pipelined
      read_head();
      return;
    }
    if (worker_.stopping) {
      return;
    }
    buffer_.shrink_to_fit();
    idle_ = true;
    deadline(options().idle_timeout);
    stream_.async_read_some(buffer_.prepare(kFirstRead),
                            step([](auto& self, error_code ec, std::size_t bytes) {
                              self.idle_ = false;
                              self.buffer_.commit(bytes);
                              ec ? self.failed(ec) : self.read_head();
                            }));
  }

  void read_head() {
    origin_ = {};
    parser_.emplace();
    parser_->header_limit(kMaxHead);
    parser_->body_limit(std::numeric_limits<uint64_t>::max());  // the collector judges it
    deadline(options().head_timeout);
    protocol::async_read_header(stream_, buffer_, *parser_,
                                step([](auto& self, error_code ec, std::size_t) {
                                  ec ? self.bad_head(ec) : self.judge();
                                }));
  }

  void bad_head(error_code ec) {
    begin_ = Clock::now();
    if (ec == protocol::error::header_limit || ec == protocol::error::buffer_overflow) {
      respond(refusal(431, "the head of the request is too long"), true);
    } else if (ec != protocol::error::end_of_stream && ec != protocol::error::partial_message &&
               ec.category() == make_error_code(protocol::error::bad_method).category()) {
      respond(refusal(400, "the head of the request is no HTTP/1.1: " + ec.message()), true);
    } else {
      failed(ec);
    }
  }

  std::string_view field(protocol::field name) const { return view(parser_->get()[name]); }
  std::string_view field(boost::string_view name) const { return view(parser_->get()[name]); }

  RequestHead head() const {
    RequestHead head;
    head.method = view(parser_->get().method_string());
    head.target = view(parser_->get().target());
    head.has_host =
        parser_->get().version() < 11 || parser_->get().count(protocol::field::host) > 0;
    if (const auto length = parser_->content_length()) {
      head.content_length = *length;
    }
    head.chunked = parser_->chunked();
    head.content_type = field(protocol::field::content_type);
    head.content_encoding = field(protocol::field::content_encoding);
    head.channel = field("X-Prime-Fabric-Channel");
    head.origin = field(protocol::field::origin);
    head.authorization = field(protocol::field::authorization);
    head.client = client_;
    head.asks_private_network = field("Access-Control-Request-Private-Network") == "true";
    return head;
  }

  void judge() {
    begin_ = Clock::now();
    const RequestHead request = head();
    origin_ = request.origin;
    const bool has_body = request.chunked || request.content_length.value_or(0) > 0;
    if (std::optional<Answer> answer = worker_.shared.collector.judge(request)) {
      respond(std::move(*answer), has_body);
      return;
    }
    body_left_ = *request.content_length;
    deadline(options().body_timeout);
    if (beast::iequals(parser_->get()[protocol::field::expect], "100-continue")) {
      asio::async_write(stream_, asio::buffer(kContinue),
                        step([](auto& self, error_code ec, std::size_t) {
                          ec ? self.failed(ec) : self.read_body();
                        }));
    } else {
      read_body();
    }
  }

  void read_body() {
    if (body_left_ == 0) {
      take_body();
      return;
    }
    const std::size_t have = body_.size();
    const std::size_t step_size = have > 0 ? have : buffer_.size() + kFirstBody;
    const std::size_t more = std::min<std::size_t>(body_left_, step_size);
    if (!worker_.shared.take_memory(more)) {
      give_back_body();
      respond(retry_later(429, "too many snapshots are arriving; send it again later"), true);
      return;
    }
    body_memory_ += more;
    body_left_ -= more;
    body_.resize(have + more);
    const asio::mutable_buffer target(body_.data() + have, more);
    const std::size_t buffered = asio::buffer_copy(target, buffer_.data());
    buffer_.consume(buffered);
    asio::async_read(stream_, target + buffered, step([](auto& self, error_code ec, std::size_t) {
                       ec ? self.failed(ec) : self.read_body();
                     }));
  }

  void take_body() {
    beast::get_lowest_layer(stream_).expires_never();  // the disk has no deadline
    // Moves itself on, so that the writer's thread is never the last to hold the connection.
    worker_.intake.post(body_.view(), [self = this->shared_from_this()](Answer answer) mutable {
      auto executor = self->stream_.get_executor();
      asio::post(executor, [self = std::move(self), answer = std::move(answer)]() mutable {
        self->respond(std::move(answer), false);
      });
    });
    give_back_body();
  }

  void give_back_body() {
    worker_.shared.give_back_memory(body_memory_);
    body_memory_ = 0;
    body_.trim(0);
  }

  // --- The answer ---

  // `unread`: the rest of the request stays unread, so the connection cannot go on.
  void respond(Answer answer, bool unread) {
    worker_.shared.collector.add_cors(origin_, answer);
    metrics().count_answer(answer.status);
    metrics().request_time.add(Clock::now() - begin_);
    const bool is_head = parser_->get().method() == protocol::verb::head;
    response_ = {};
    response_.version(parser_->is_header_done() ? parser_->get().version() : 11);
    response_.result(static_cast<unsigned>(answer.status));
    response_.set(protocol::field::date, http_date());
    for (const auto& [name, value] : answer.fields) {
      response_.set(boost::string_view(name.data(), name.size()), value);
    }
    if (answer.status != 204) {
      response_.set(protocol::field::content_type, answer.content_type);
      response_.content_length(answer.body.size());
    }
    const bool keep =
        !unread && parser_->is_header_done() && parser_->keep_alive() && !worker_.stopping;
    response_.keep_alive(keep);
    if (!is_head) {
      response_.body() = std::move(answer.body);
    }
    deadline(options().write_timeout);
    protocol::async_write(
        stream_, response_, step([](auto& self, error_code ec, std::size_t) {
          ec ? self.failed(ec) : self.response_.keep_alive() ? self.await_request() : self.linger();
        }));
  }

  // A socket that is closed with unread bytes resets the connection, and the client loses the
  // answer. So: no more from us, and a while of reading what the client still sends.
  void linger() {
    deadline(kLinger);
    error_code ignored;
    if constexpr (!kTls) {
      socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    }
    discard();
  }
  void discard() {
    stream_.async_read_some(asio::buffer(worker_.discarded),
                            step([](auto& self, error_code ec, std::size_t bytes) {
                              self.discarded_ += bytes;
                              if (!ec && self.discarded_ < kMaxDiscarded) {
                                self.discard();
                              }
                            }));
  }

  Worker& worker_;
  Stream stream_;
  Client client_ = 0;
  beast::flat_buffer buffer_{kReadBuffer};
  std::optional<protocol::request_parser<protocol::empty_body>> parser_;
  std::string_view origin_;  // in the parser
  PaddedText body_;
  uint64_t body_left_ = 0;
  std::size_t body_memory_ = 0;  // taken from what all share
  uint64_t discarded_ = 0;
  Clock::time_point begin_;
  protocol::response<protocol::string_body> response_;
  bool idle_ = false;
};

}  // namespace

void start_session(Worker& worker, asio::ip::tcp::socket socket, asio::ssl::context* tls) {
  if (worker.stopping) {
    worker.shared.metrics.connections.fetch_sub(1, std::memory_order_relaxed);
  } else if (tls == nullptr) {
    std::make_shared<Connection<beast::tcp_stream>>(worker, std::move(socket))->start();
  } else {
    std::make_shared<Connection<beast::ssl_stream<beast::tcp_stream>>>(worker, std::move(socket),
                                                                       *tls)
        ->start();
  }
}

}  // namespace stemfabric::http
