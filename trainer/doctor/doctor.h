// What this installation can do on this machine: one finding per check, with what to do about it.
#pragma once

#include <string>
#include <vector>

namespace stemfabric {

enum class FindingStatus : uint8_t {
  kOk,
  kNote,     // a feature that is absent; nothing is broken
  kWarning,  // some commands will fail or be slow
  kFailure,  // nothing can be trusted to work
};
std::string_view finding_status_name(FindingStatus status);

struct Finding {
  std::string name;  // "cpu", "cuda", "linear self-test"
  FindingStatus status;
  std::string text;    // what was found
  std::string advice;  // what to do; empty if nothing
};

// Runs every check. Never throws: a check that fails is a finding.
std::vector<Finding> examine_installation();
bool essentials_work(const std::vector<Finding>& findings);

// One line: {"version":…,"revision":…,"ok":…,"checks":[{"name","status","text","advice"}…]}
std::string findings_to_json(const std::vector<Finding>& findings);

}  // namespace stemfabric
