// `stemfabric sanitize`: exported snapshots in, sanitised records out. Policy, record and report:
// docs/snapshots.md.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "trainer/snapshot/snapshot_parser.h"

namespace stemfabric {

struct SanitizeOptions {
  // Folder, *.json (one snapshot), *.jsonl (one per line), or the store of an ingest.
  std::filesystem::path input;
  std::filesystem::path output;  // records, one JSON object per line
  std::filesystem::path report;  // verdict of every snapshot; empty = none
  int threads = 0;               // 0 = all cores this process may use
  std::string salt;              // goes before the id when it is hashed
  int64_t after_sequence = 0;    // of a store, only what arrived later than this one
};

struct SanitizeSummary {
  std::array<int64_t, kVerdictCount> counts{};  // by Verdict
  uint64_t input_bytes = 0;
  uint64_t output_bytes = 0;
  int64_t last_sequence = 0;  // of a store: the newest snapshot that was read; 0 for files
  // Reasons with their numbers: refusals, then repairs; at most kMaxReasons each.
  static constexpr std::size_t kMaxReasons = 40;
  std::map<std::string, int64_t> refusals;
  std::map<std::string, int64_t> repairs;

  int64_t count(Verdict verdict) const { return counts[static_cast<std::size_t>(verdict)]; }
  int64_t accepted() const { return count(Verdict::kAccept) + count(Verdict::kAcceptWithRepair); }
};

// Streams: memory does not depend on the size of the input but for 32 bytes or so per accepted
// snapshot (ids already seen). The output is the same for every number of threads. Output and
// report appear whole or not at all. A bad snapshot is a verdict, not an error.
SanitizeSummary sanitize_snapshots(const SanitizeOptions& options);
// InputError that says why if nothing was accepted.
void require_accepted(const SanitizeOptions& options, const SanitizeSummary& summary);

}  // namespace stemfabric
