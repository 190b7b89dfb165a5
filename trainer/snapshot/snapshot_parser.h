// Reads one exported snapshot by the acceptance policy of docs/snapshots.md.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/snapshot/schema.h"

namespace stemfabric {

enum class Verdict : uint8_t { kAccept, kAcceptWithRepair, kReject, kDuplicate };
inline constexpr int kVerdictCount = 4;
std::string_view verdict_name(Verdict verdict);  // "accept", "accept-with-repair", …

// Bytes that must be readable (with any contents but '}') after a text that is parsed.
inline constexpr std::size_t kJsonPadding = 64;

// Not thread-safe; keeps its memory from one snapshot to the next.
class SnapshotParser {
 public:
  SnapshotParser();
  ~SnapshotParser();
  SnapshotParser(const SnapshotParser&) = delete;
  SnapshotParser& operator=(const SnapshotParser&) = delete;

  // Returns accept, accept-with-repair or reject; `reasons` then lists the repairs or the one cause
  // of the refusal, each with its field. They hold no text of the snapshot. After a refusal the
  // record is unspecified. `text` is followed by kJsonPadding readable bytes.
  Verdict parse(std::string_view text, SnapshotRecord& record, std::vector<std::string>& reasons);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
