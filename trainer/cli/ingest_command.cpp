// stemfabric ingest: collects the Studio's snapshots over HTTP, or purges what was collected.
#include "trainer/ingest/ingest.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "trainer/cli/command.h"
#include "trainer/cli/option_values.h"

namespace stemfabric::cli {
namespace {

constexpr double kDayMilliseconds = 86400.0 * 1000.0;

struct IngestArguments {
  IngestOptions options;
  std::string listen = "127.0.0.1:8787";
  int64_t max_body_mib = 16;
  int64_t queue_mib = 64;
  double retain_days = 0.0;
  double purge_older_than_days = 0.0;
  bool purge_by_age = false;
  std::vector<std::string> purge_ids;
};

std::chrono::milliseconds days(double value) {
  return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(value * kDayMilliseconds)));
}

// HOST:PORT, the host in brackets if it is an IPv6 address.
void set_address(const std::string& text, HttpServerOptions& http) {
  const std::size_t colon = text.rfind(':');
  std::string host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    host.clear();
  }
  const char* begin = text.data() + (colon == std::string::npos ? text.size() : colon + 1);
  const char* end = text.data() + text.size();
  const auto [last, error] = std::from_chars(begin, end, http.port);
  if (host.empty() || begin == end || last != end || error != std::errc()) {
    throw UsageError("--listen '{}' is no HOST:PORT (127.0.0.1:8787, [::1]:8787; port 0: any)",
                     text);
  }
  http.host = host;
}

int run_purge(const IngestArguments& arguments) {
  std::optional<std::chrono::milliseconds> older_than;
  if (arguments.purge_by_age) {
    older_than = days(arguments.purge_older_than_days);
  }
  const PurgeResult result = purge_snapshots(
      {.store = arguments.options.store, .ids = arguments.purge_ids, .older_than = older_than});
  for (const std::string& id : result.unknown_ids) {
    log_warning("no snapshot {} is in the store", id);
  }
  if (!result.log_cleared) {
    log_warning("{} is in use: parts of what was purged stay in its -wal file for a while",
                arguments.options.store.string());
  }
  fmt::print("{} snapshots purged by age, {} by id; {} are left in {}\n", result.by_age,
             result.by_id, result.left, arguments.options.store.string());
  return 0;
}

int run(IngestArguments arguments) {
  if (!arguments.purge_ids.empty() || arguments.purge_by_age) {
    return run_purge(arguments);
  }
  IngestOptions& options = arguments.options;
  if (options.http.tls_certificate.empty() != options.http.tls_key.empty()) {
    throw UsageError("--tls-certificate and --tls-key belong together; give both or none");
  }
  set_address(arguments.listen, options.http);
  options.collector.max_body_bytes = static_cast<uint64_t>(arguments.max_body_mib) << 20;
  options.writer.queued_bytes = static_cast<uint64_t>(arguments.queue_mib) << 20;
  options.writer.retain = days(arguments.retain_days);
  const IngestEnd end = run_ingest(options, [](const std::string& address) {
    fmt::print("Listening on {}\n", address);
    std::fflush(stdout);
  });
  fmt::print("Stopped by {}; {} snapshots are in {}\n", end.signal, end.stored,
             options.store.string());
  return 0;
}

void add_limits(CLI::App& command, IngestArguments& arguments) {
  IngestOptions& options = arguments.options;
  command.add_option("--threads", options.http.threads, "Threads that serve connections")
      ->check(whole_number(1, 256));
  command.add_option("--max-body-mib", arguments.max_body_mib, "Largest snapshot taken, in MiB")
      ->check(whole_number(1, 16));
  command
      .add_option("--max-connections", options.http.max_connections,
                  "Connections at a time; as many as `ulimit -n` allows")
      ->check(whole_number(1, 1000000));
  command
      .add_option("--queue-mib", arguments.queue_mib,
                  "Snapshots that may wait for the disk, in MiB; more are answered 429")
      ->check(whole_number(1, 65536));
  command
      .add_option("--client-rate", options.collector.client_rate,
                  "Snapshots that one address may send at once, and a minute; 0 = any number")
      ->check(whole_number(0, 1000000));
}

}  // namespace

void add_ingest_command(CLI::App& app, Run& run_later) {
  auto arguments = std::make_shared<IngestArguments>();
  IngestOptions& options = arguments->options;
  CLI::App* command = app.add_subcommand("ingest", "Collect snapshots over HTTP");
  command->add_option("--store", options.store, "SQLite database of the snapshots; made if missing")
      ->type_name("FILE")
      ->required();
  command->add_option("--listen", arguments->listen, "Address; port 0 takes any that is free")
      ->type_name("HOST:PORT");
  command
      ->add_option("--allow-origin", options.collector.allowed_origins,
                   "Origins whose pages may send; * = all. May be given several times")
      ->type_name("ORIGIN")
      ->default_str("*")
      ->expected(1)
      ->take_all();
  command
      ->add_option("--token-file", options.token_file,
                   "Ask for the bearer token in this file; the Studio has none to send")
      ->type_name("FILE");
  command->add_option("--tls-certificate", options.http.tls_certificate, "PEM chain: HTTPS")
      ->type_name("FILE");
  command->add_option("--tls-key", options.http.tls_key, "PEM key of the certificate")
      ->type_name("FILE");
  add_limits(*command, *arguments);
  command
      ->add_option("--retain-days", arguments->retain_days,
                   "Purge what arrived longer ago while it runs; 0 = keep")
      ->type_name("DAYS")
      ->check(real_number(0, 36500));
  command
      ->add_option("--purge-older-than", arguments->purge_older_than_days,
                   "Do not listen: purge what arrived more than DAYS ago, and end")
      ->type_name("DAYS")
      ->default_str("")
      ->check(real_number(0, 36500));
  command
      ->add_option("--purge-id", arguments->purge_ids,
                   "Do not listen: purge this snapshot, and end. May be given several times")
      ->type_name("UUID")
      ->expected(1)
      ->take_all();
  command->callback([&run_later, command, arguments] {
    arguments->purge_by_age = command->count("--purge-older-than") > 0;
    run_later = [arguments] { return run(*arguments); };
  });
}

}  // namespace stemfabric::cli
