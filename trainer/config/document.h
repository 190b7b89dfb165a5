// A YAML or JSON document as a plain tree with line numbers, read from hostile text: bounded size,
// depth and number of nodes, one document, no duplicate keys.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stemfabric {

enum class NodeKind : uint8_t { kNull, kScalar, kSequence, kMap };

struct DocumentNode {
  NodeKind kind = NodeKind::kNull;
  std::string text;                      // of a scalar
  bool quoted = false;                   // a quoted scalar is a string whatever it looks like
  std::string origin;                    // "configs/a.yaml:12", "--set"
  std::vector<std::string> keys;         // of a map; keys[i] names items[i]
  std::vector<std::string> key_origins;  // of a map
  std::vector<DocumentNode> items;       // of a sequence or a map

  const DocumentNode* find(std::string_view key) const;  // nullptr if the map lacks it
};

// Reads one YAML document. `source` introduces errors and origins; with `with_lines` its lines are
// added ("a.yaml:3"). Aliases are expanded within the limits; tags are refused but for the standard
// ones and !!python/tuple. Throws ConfigError.
DocumentNode parse_yaml(std::string_view text, const std::string& source, bool with_lines);

// Reads one JSON document; origins are `source`. Throws InputError.
DocumentNode parse_json(const std::string& text, const std::string& source);

}  // namespace stemfabric
