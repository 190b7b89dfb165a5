// A client of HTTP/1.1 that sends what it is told, byte for byte, right or wrong.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace stemfabric::test {

struct HttpResponse {
  int status = 0;                             // 0: the connection ended before an answer
  std::map<std::string, std::string> fields;  // names in lower case
  std::string body;
  std::string field(const std::string& name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? std::string() : found->second;
  }
};

// One connection to 127.0.0.1. Waits at most a minute for anything, then throws an Error.
class HttpClient {
 public:
  explicit HttpClient(uint16_t port);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // False if the other side has closed.
  bool send(std::string_view bytes);
  void finish();  // sends no more
  HttpResponse receive(bool head_only = false);
  HttpResponse exchange(std::string_view bytes) {
    send(bytes);
    return receive();
  }
  // Whether the other side ends the connection, with nothing more to read.
  bool ends();

 private:
  bool fill();  // reads more into buffer_; false at the end
  int socket_ = -1;
  std::string buffer_;
};

// A request with Host and Content-Length (unless the method is GET, HEAD or OPTIONS).
std::string http_request(std::string_view method, std::string_view target,
                         const std::vector<std::string>& fields, std::string_view body = {});

}  // namespace stemfabric::test
