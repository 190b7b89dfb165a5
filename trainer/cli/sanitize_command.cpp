// stemfabric sanitize: exported snapshots in, sanitised records and a report of verdicts out.
#include "trainer/snapshot/sanitize.h"

#include <fmt/core.h>

#include <limits>
#include <memory>

#include "runtime/core/check.h"
#include "trainer/cli/command.h"
#include "trainer/cli/option_values.h"

namespace stemfabric::cli {
namespace {

void print_reasons(const char* title, const std::map<std::string, int64_t>& reasons) {
  if (!reasons.empty()) {
    fmt::print("{}\n", title);
  }
  for (const auto& [reason, count] : reasons) {
    fmt::print("  {:>8}  {}\n", count, reason);
  }
}

int run_sanitize(const SanitizeOptions& options) {
  const SanitizeSummary summary = sanitize_snapshots(options);
  print_reasons("Refused because of:", summary.refusals);
  print_reasons("Repaired:", summary.repairs);
  fmt::print("{} accepted, {} accepted after repair, {} refused, {} duplicates: {} of {:.1f} MB\n",
             summary.count(Verdict::kAccept), summary.count(Verdict::kAcceptWithRepair),
             summary.count(Verdict::kReject), summary.count(Verdict::kDuplicate),
             options.output.string(), static_cast<double>(summary.output_bytes) / 1e6);
  if (summary.last_sequence > 0) {
    fmt::print("The store was read up to --after-sequence {}\n", summary.last_sequence);
  }
  require_accepted(options, summary);
  return 0;
}

}  // namespace

void add_sanitize_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<SanitizeOptions>();
  CLI::App* command = app.add_subcommand(
      "sanitize", "Validate exported snapshots and keep only what the schema names");
  command
      ->add_option("--input", options->input,
                   "Folder with *.json and *.jsonl (searched recursively), one such file, or the "
                   "store of an ingest")
      ->type_name("PATH")
      ->required();
  command->add_option("--output", options->output, "Sanitised records, one JSON object per line")
      ->type_name("FILE.jsonl")
      ->required();
  command->add_option("--report", options->report, "JSON report with the verdict of each snapshot")
      ->type_name("FILE.json");
  command
      ->add_option("--threads", options->threads, "Worker threads; 0 = all cores of this process")
      ->check(whole_number(0, 1024))
      ->capture_default_str();
  command->add_option("--salt", options->salt,
                      "Text put before each id when it is hashed; keep it secret and the same");
  command
      ->add_option(
          "--after-sequence", options->after_sequence,
          "Of a store, only what arrived after this number: the last one of the run before")
      ->check(whole_number(0, std::numeric_limits<int64_t>::max()));
  command->callback([&run, options] { run = [options] { return run_sanitize(*options); }; });
}

}  // namespace stemfabric::cli
