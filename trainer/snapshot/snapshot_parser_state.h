// What SnapshotParser keeps and does, for its two source files. Internal to trainer/snapshot: it
// includes simdjson.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/snapshot/snapshot_parser.h"
#include "trainer/snapshot/strict_json-inl.h"

namespace stemfabric {

struct SnapshotParser::State {
  strict_json::od::parser parser;
  strict_json::KeyStack keys;
  std::string text;  // decoded string values
  std::vector<double> transient_times;
  double duration = 0.0;

  struct Repair {
    std::string_view where;  // constants only
    std::string_view what;
    int64_t count;
  };
  std::vector<Repair> repairs;
  SnapshotRecord* record = nullptr;

  void repair(std::string_view where, std::string_view what, int64_t count = 1) {
    for (Repair& known : repairs) {
      if (known.where == where && known.what == what) {
        known.count += count;
        return;
      }
    }
    repairs.push_back({where, what, count});
  }
  void drop(strict_json::od::value value, std::string_view where, int depth) {
    strict_json::validate(value, keys, where, depth, kMaxSnapshotDepth);
    repair(where, "unknown field dropped");
  }
  double clamp01(double value, std::string_view where) {
    if (value < 0.0 || value > 1.0) {
      repair(where, "clamped to 0..1");
    }
    return std::clamp(value, 0.0, 1.0);
  }

  // snapshot_parser.cpp
  void read_root(strict_json::od::object root);
  void read_id(strict_json::od::value value);
  void read_audio(strict_json::od::value value);
  void read_features(strict_json::od::value value);
  void read_floats(strict_json::od::value value, const std::string& where, int64_t limit,
                   std::vector<float>& out);
  void read_metadata(strict_json::od::value value);
  void derive();
  // snapshot_parser_context.cpp
  void read_context(strict_json::od::value value);
  void read_key(strict_json::od::value value);
  void read_mode(strict_json::od::value value);
  void read_bpm(strict_json::od::value value);
  void read_transients(strict_json::od::value value);
  void read_harmonic_content(strict_json::od::value value);
  void read_stems(strict_json::od::value value);
  void read_corrections(strict_json::od::value value);
  void read_correction(strict_json::od::value value);
  std::optional<std::array<double, 2>> read_range(strict_json::od::value value,
                                                  std::string_view where);
};

// "<parent>.<name>" for each name.
std::vector<std::string> field_paths(std::string_view parent,
                                     std::span<const std::string_view> names);

}  // namespace stemfabric
