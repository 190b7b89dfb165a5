// Snapshots of the test data, whole and damaged, for the tests of trainer/snapshot.
#pragma once

#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/io/file.h"
#include "tests/support/paths.h"
#include "trainer/snapshot/snapshot_parser.h"

namespace stemfabric::test {

using Json = nlohmann::ordered_json;

inline Json read_ordered_json(const std::filesystem::path& path) {
  return Json::parse(read_text_file(path));
}

// The well-formed control: 2049 samples, stems vocals and drums, one correction.
inline const Json& control() {
  static const Json kControl =
      read_ordered_json(data_dir() / "bad_snapshots" / "valid_control.json");
  return kControl;
}
inline std::string control_with(const std::function<void(Json&)>& change) {
  Json snapshot = control();
  change(snapshot);
  return snapshot.dump();
}
// The control's text with the first `from` replaced by `to`.
inline std::string control_replacing(std::string_view from, std::string_view to) {
  std::string text = control().dump();
  const std::size_t at = text.find(from);
  if (at == std::string::npos) {
    throw std::runtime_error("control_replacing: '" + std::string(from) + "' is not there");
  }
  return text.replace(at, from.size(), to);
}

struct Parsed {
  Verdict verdict = Verdict::kReject;
  std::vector<std::string> reasons;
  SnapshotRecord record;
  std::string reason() const {
    std::string all;
    for (const std::string& reason : reasons) {
      all += (all.empty() ? "" : "; ") + reason;
    }
    return all;
  }
};

inline Parsed parse(const std::string& text) {
  // Exactly the promised padding, so that a sanitizer sees any read beyond it.
  std::vector<char> padded(text.size() + kJsonPadding, '\0');
  std::memcpy(padded.data(), text.data(), text.size());
  static SnapshotParser parser;  // reused on purpose: no snapshot may change the next one's result
  Parsed parsed;
  parsed.verdict =
      parser.parse(std::string_view(padded.data(), text.size()), parsed.record, parsed.reasons);
  return parsed;
}

}  // namespace stemfabric::test
