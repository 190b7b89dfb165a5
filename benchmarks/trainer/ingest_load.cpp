// Load for `stemfabric ingest`: posts the real snapshots of tests/data/snapshots, each under a
// fresh id, over keep-alive connections, and reports rate and latency of the acknowledged ones.
//
// With --rate the load is open: request i is due at i / rate, whatever became of those before, and
// its latency counts from then, so that a stalled server is not flattered. Without, each connection
// sends the next one as soon as the last is answered. One thread, epoll.
#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/io/file.h"

namespace {

using namespace stemfabric;
using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

struct Options {
  uint16_t port = 0;
  int connections = 32;
  int idle_connections = 0;
  double rate = 0.0;
  double seconds = 10.0;
  int server_pid = 0;
  fs::path snapshots = "tests/data/snapshots";
};

// A whole request with the place of its id.
struct Template {
  std::string text;
  std::size_t id_at = 0;
};

std::vector<Template> read_templates(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Template> result;
  for (const fs::path& path : paths) {
    const std::string body = read_text_file(path);
    const std::size_t key = body.find("\"id\"");
    SF_CHECK(key != std::string::npos, "{}: is no snapshot", path.string());
    const std::size_t id = body.find('"', body.find(':', key)) + 1;
    const std::string head = fmt::format(
        "POST /stem-separation HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        "X-Prime-Fabric-Channel: stem-separation\r\nContent-Length: {}\r\n\r\n",
        body.size());
    result.push_back({head + body, head.size() + id});
  }
  SF_CHECK(!result.empty(), "{}: holds no snapshots", folder.string());
  return result;
}

int connect_to(uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  SF_CHECK(socket >= 0, "socket ({}); raise `ulimit -n`", std::strerror(errno));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  SF_CHECK(::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0,
           "connect to port {} ({})", port, std::strerror(errno));
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return socket;
}

// User and system time of a process in seconds, and its peak memory in MB.
struct Usage {
  double seconds = 0.0;
  double peak_mb = 0.0;
};
Usage usage_of(int pid) {
  Usage usage;
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  const std::string text((std::istreambuf_iterator<char>(stat)), {});
  std::istringstream fields(text.substr(std::min(text.rfind(')') + 2, text.size())));
  std::string skipped;
  for (int i = 0; i < 11; ++i) {
    fields >> skipped;
  }
  double user = 0;
  double system = 0;
  fields >> user >> system;
  usage.seconds = (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) {
      usage.peak_mb = std::stod(line.substr(6)) / 1024.0;
    }
  }
  return usage;
}

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options),
        templates_(read_templates(options.snapshots)),
        epoll_(::epoll_create1(0)) {
    std::random_device random;
    run_ = random();
    for (int i = 0; i < options.idle_connections; ++i) {
      idle_sockets_.push_back(connect_to(options.port));
    }
    for (int i = 0; i < options.connections; ++i) {
      Connection& one = *connections_.emplace_back(std::make_unique<Connection>());
      one.socket = connect_to(options.port);
      one.requests = templates_;  // its own, for the ids
      epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {.ptr = &one}};
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, one.socket, &event);
      free_.push_back(&one);
    }
  }

  void run() {
    begin_ = Clock::now();
    const Usage server_before = usage_of(options_.server_pid);
    const auto end = begin_ + std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(options_.seconds));
    std::vector<epoll_event> events(256);
    while (Clock::now() < end || free_.size() < connections_.size()) {
      if (Clock::now() < end) {
        make_due();
      } else {
        due_.clear();
      }
      start_requests();
      const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 1);
      for (int i = 0; i < count; ++i) {
        serve(*static_cast<Connection*>(events[static_cast<std::size_t>(i)].data.ptr));
      }
    }
    report(server_before);
  }

 private:
  struct Connection {
    int socket = -1;
    std::vector<Template> requests;
    std::string_view left;  // of the request that is being sent
    std::string answer;
    Clock::time_point due;
    bool busy = false;
  };

  void make_due() {
    const auto now = Clock::now();
    if (options_.rate <= 0) {
      due_.assign(free_.size(), now);
      return;
    }
    for (;; ++scheduled_) {
      const auto due =
          begin_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                       static_cast<double>(scheduled_) / options_.rate));
      if (due > now) {
        return;
      }
      due_.push_back(due);
    }
  }

  void start_requests() {
    while (!due_.empty() && !free_.empty()) {
      Connection& one = *free_.back();
      free_.pop_back();
      Template& request = one.requests[static_cast<std::size_t>(sent_) % one.requests.size()];
      const std::string id = fmt::format("{:08x}-0000-4000-8000-{:012x}", run_, sent_++);
      request.text.replace(request.id_at, id.size(), id);
      one.left = request.text;
      one.due = due_.front();
      one.busy = true;
      due_.pop_front();
      bytes_ += request.text.size();
      serve(one);
    }
  }

  void serve(Connection& one) {
    while (!one.left.empty()) {
      const ssize_t sent =
          ::send(one.socket, one.left.data(), one.left.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0) {
        SF_CHECK(errno == EAGAIN, "send ({})", std::strerror(errno));
        break;
      }
      one.left.remove_prefix(static_cast<std::size_t>(sent));
    }
    char bytes[4096];
    ssize_t got = 0;
    while ((got = ::recv(one.socket, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
      one.answer.append(bytes, static_cast<std::size_t>(got));
    }
    SF_CHECK(got < 0 && errno == EAGAIN, "the server closed a connection");
    if (one.busy && one.answer.ends_with("}\n")) {
      finish(one);
    }
  }

  void finish(Connection& one) {
    ++statuses_[one.answer.substr(9, 3)];
    if (one.answer.substr(9, 3) == "200") {
      latencies_.push_back(
          std::chrono::duration<double, std::milli>(Clock::now() - one.due).count());
    }
    one.answer.clear();
    one.busy = false;
    free_.push_back(&one);
  }

  double percentile(double share) const {
    if (latencies_.empty()) {
      return NAN;
    }
    const auto index = static_cast<std::size_t>(share * static_cast<double>(latencies_.size()));
    return latencies_[std::min(index, latencies_.size() - 1)];
  }

  void report(const Usage& before) {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    std::sort(latencies_.begin(), latencies_.end());
    const auto acknowledged = static_cast<double>(latencies_.size());
    fmt::print("{} acknowledged in {:.2f} s: {:.0f} snapshots/s, {:.1f} MB/s\n", latencies_.size(),
               seconds, acknowledged / seconds, static_cast<double>(bytes_) / seconds / 1e6);
    for (const auto& [status, count] : statuses_) {
      fmt::print("  status {}: {}\n", status, count);
    }
    fmt::print("latency in ms: p50 {:.1f}, p90 {:.1f}, p99 {:.1f}, p99.9 {:.1f}, max {:.1f}\n",
               percentile(0.5), percentile(0.9), percentile(0.99), percentile(0.999),
               percentile(1.0));
    rusage own{};
    ::getrusage(RUSAGE_SELF, &own);
    const double own_seconds =
        static_cast<double>(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
        1e-6 * static_cast<double>(own.ru_utime.tv_usec + own.ru_stime.tv_usec);
    fmt::print("processor time per snapshot in ms: load {:.3f}", 1e3 * own_seconds / acknowledged);
    if (options_.server_pid > 0) {
      const Usage after = usage_of(options_.server_pid);
      fmt::print(", server {:.3f}; server's peak memory {:.0f} MB",
                 1e3 * (after.seconds - before.seconds) / acknowledged, after.peak_mb);
    }
    fmt::print("\n");
  }

  Options options_;
  std::vector<Template> templates_;
  int epoll_;
  uint32_t run_ = 0;  // makes the ids of this run its own
  std::vector<int> idle_sockets_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<Connection*> free_;
  std::deque<Clock::time_point> due_;
  int64_t scheduled_ = 0;
  int64_t sent_ = 0;
  uint64_t bytes_ = 0;
  Clock::time_point begin_;
  std::vector<double> latencies_;  // ms, of the acknowledged
  std::map<std::string, int64_t> statuses_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Load for stemfabric ingest on this machine");
  Options options;
  app.add_option("--port", options.port, "Port of the collector on 127.0.0.1")->required();
  app.add_option("--connections", options.connections, "Connections that send");
  app.add_option("--idle-connections", options.idle_connections, "More that send nothing");
  app.add_option("--rate", options.rate, "Snapshots per second; 0: as fast as they are answered");
  app.add_option("--seconds", options.seconds, "Duration");
  app.add_option("--server-pid", options.server_pid, "Process whose time and memory are reported");
  app.add_option("--snapshots", options.snapshots, "Folder of the snapshots");
  CLI11_PARSE(app, argc, argv);
  try {
    Load(options).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "ingest_load: {}\n", error.what());
    return 1;
  }
}
