// stemfabric doctor: what works here, what does not, what to do.
#include <fmt/core.h>

#include <memory>

#include "trainer/cli/command.h"
#include "trainer/doctor/doctor.h"
#include "trainer/version.h"

namespace stemfabric::cli {
namespace {

int run_doctor(bool json) {
  const auto findings = examine_installation();
  if (json) {
    fmt::print("{}\n", findings_to_json(findings));
  } else {
    fmt::print("{}\n", version_line());
    for (const Finding& finding : findings) {
      fmt::print("{:<8} {:<18} {}\n", finding_status_name(finding.status), finding.name,
                 finding.text);
      if (!finding.advice.empty()) {
        fmt::print("{:<27} -> {}\n", "", finding.advice);
      }
    }
    fmt::print("{}\n", essentials_work(findings) ? "Ready."
                                                 : "Something essential does not work: see above.");
  }
  return essentials_work(findings) ? 0 : 1;
}

}  // namespace

void add_doctor_command(CLI::App& app, Run& run) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("doctor", "Devices, libraries, limits: what works and what to do");
  command->add_flag("--json", *json, "Print one JSON object");
  command->callback([&run, json] { run = [json] { return run_doctor(*json); }; });
}

}  // namespace stemfabric::cli
