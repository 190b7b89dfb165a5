#include "tests/support/http_client.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "runtime/core/check.h"

namespace stemfabric::test {
namespace {

// A call on a socket with a time limit fails when a signal comes, whatever SA_RESTART says; the
// timer of libFuzzer sends some. On Linux a connect() that was interrupted may be called again.
template <typename Call>
auto despite_signals(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) {
    result = call();
  }
  return result;
}

}  // namespace

HttpClient::HttpClient(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval limit{.tv_sec = 60, .tv_usec = 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const int on = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int connected = despite_signals(
      [&] { return ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address); });
  SF_CHECK(connected == 0, "connect to port {}: {}", port, std::strerror(errno));
}

HttpClient::~HttpClient() { ::close(socket_); }

bool HttpClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent =
        despite_signals([&] { return ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
    if (sent <= 0) {
      SF_CHECK(errno == EPIPE || errno == ECONNRESET, "send: {}", std::strerror(errno));
      return false;
    }
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

void HttpClient::finish() { ::shutdown(socket_, SHUT_WR); }

bool HttpClient::fill() {
  char bytes[16384];
  const ssize_t got = despite_signals([&] { return ::recv(socket_, bytes, sizeof bytes, 0); });
  if (got > 0) {
    buffer_.append(bytes, static_cast<std::size_t>(got));
  }
  // The time limit above all: a server that says nothing has not ended the connection.
  SF_CHECK(got >= 0 || errno == ECONNRESET, "receive: {}", std::strerror(errno));
  return got > 0;
}

bool HttpClient::ends() { return buffer_.empty() && !fill(); }

HttpResponse HttpClient::receive(bool head_only) {
  std::size_t end = 0;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill()) {
      return {};
    }
  }
  HttpResponse response;
  std::size_t line = buffer_.find("\r\n");
  response.status = std::atoi(buffer_.c_str() + buffer_.find(' ') + 1);
  while (line < end) {
    const std::size_t begin = line + 2;
    line = buffer_.find("\r\n", begin);
    const std::size_t colon = buffer_.find(": ", begin);
    std::string name = buffer_.substr(begin, colon - begin);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    response.fields[name] = buffer_.substr(colon + 2, line - colon - 2);
  }
  buffer_.erase(0, end + 4);
  const std::string length = response.field("content-length");
  const std::size_t size = length.empty() || head_only ? 0 : std::stoul(length);
  while (buffer_.size() < size && fill()) {
  }
  response.body = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return response;
}

std::string http_request(std::string_view method, std::string_view target,
                         const std::vector<std::string>& fields, std::string_view body) {
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n", method, target);
  for (const std::string& field : fields) {
    text += field + "\r\n";
  }
  if (method != "GET" && method != "HEAD" && method != "OPTIONS") {
    text += fmt::format("Content-Length: {}\r\n", body.size());
  }
  text += "\r\n";
  text += body;
  return text;
}

}  // namespace stemfabric::test
