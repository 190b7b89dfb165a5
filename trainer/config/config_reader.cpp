#include "trainer/config/config_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "runtime/core/check.h"
#include "trainer/config/suggest.h"

namespace stemfabric {
namespace {

std::string joined(const std::string& section, const std::string& name) {
  return section.empty() ? name : section + "." + name;
}

std::string kind_text(const DocumentNode& node) {
  switch (node.kind) {
    case NodeKind::kNull:
      return "empty";
    case NodeKind::kSequence:
      return "a list";
    case NodeKind::kMap:
      return "a section";
    case NodeKind::kScalar:
      break;
  }
  constexpr std::size_t kShown = 60;
  return "'" + (node.text.size() > kShown ? node.text.substr(0, kShown) + "…" : node.text) + "'";
}

[[noreturn]] void wrong_type(const DocumentNode& node, const Field& field) {
  const std::string allowed = allowed_text(field);
  throw ConfigError("{}: {}: must be {}{}, not {}", node.origin, field.key(), type_name(field),
                    allowed.empty() ? "" : " (" + allowed + ")",
                    kind_text(node) + (node.quoted ? " in quotes" : ""));
}

std::optional<double> to_double(const DocumentNode& node) {
  if (node.kind != NodeKind::kScalar || node.quoted) {
    return std::nullopt;
  }
  std::string_view text = node.text;
  if (text.starts_with('+')) {
    text.remove_prefix(1);
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

// Whole numbers may be written 32, 32.0 or 1e6, but not 1.5.
std::optional<int64_t> to_integer(const DocumentNode& node) {
  const auto value = to_double(node);
  if (!value) {
    return std::nullopt;
  }
  int64_t exact = 0;
  const std::string_view text = node.text;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), exact);
  if (error == std::errc() && end == text.data() + text.size()) {
    return exact;
  }
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (*value != std::floor(*value) || std::abs(*value) > kExact) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*value);
}

std::optional<bool> to_bool(const DocumentNode& node) {
  if (node.kind != NodeKind::kScalar || node.quoted) {
    return std::nullopt;
  }
  for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}) {
    if (node.text == word) {
      return true;
    }
  }
  for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}) {
    if (node.text == word) {
      return false;
    }
  }
  return std::nullopt;
}

void check_range(const DocumentNode& node, const Field& field, double value) {
  if (!(value >= field.constraint.min && value <= field.constraint.max)) {
    throw ConfigError("{}: {}: {} is out of range; allowed: {}", node.origin, field.key(),
                      node.text, allowed_text(field));
  }
}

void set(bool& member, const DocumentNode& node, const Field& field) {
  const auto value = to_bool(node);
  if (!value) {
    wrong_type(node, field);
  }
  member = *value;
}

void set(int64_t& member, const DocumentNode& node, const Field& field) {
  const auto value = to_integer(node);
  if (!value) {
    wrong_type(node, field);
  }
  check_range(node, field, static_cast<double>(*value));
  member = *value;
}

void set(double& member, const DocumentNode& node, const Field& field) {
  const auto value = to_double(node);
  if (!value) {
    wrong_type(node, field);
  }
  check_range(node, field, *value);
  member = *value;
}

void set(std::string& member, const DocumentNode& node, const Field& field) {
  const auto& choices = field.constraint.choices;
  if (node.kind == NodeKind::kNull && choices.empty()) {
    member.clear();  // `init_from:` with nothing behind it
    return;
  }
  if (node.kind != NodeKind::kScalar) {
    wrong_type(node, field);
  }
  if (!choices.empty() && std::find(choices.begin(), choices.end(), node.text) == choices.end()) {
    throw ConfigError("{}: {}: {} is not {}{}", node.origin, field.key(), kind_text(node),
                      allowed_text(field), did_you_mean(node.text, choices));
  }
  member = node.text;
}

void set(std::vector<double>& member, const DocumentNode& node, const Field& field) {
  if (node.kind != NodeKind::kSequence) {
    wrong_type(node, field);
  }
  std::vector<double> values;
  for (const DocumentNode& item : node.items) {
    const auto value = to_double(item);
    if (!value) {
      throw ConfigError("{}: {}: entry {} must be a number, not {}", item.origin, field.key(),
                        values.size() + 1, kind_text(item));
    }
    check_range(item, field, *value);
    values.push_back(*value);
  }
  member = std::move(values);
}

class Reader {
 public:
  Reader(const FieldList& list, UnknownKeys unknown, std::map<std::string, std::string>& origins)
      : list_(list), unknown_(unknown), origins_(origins) {}

  void apply(const DocumentNode& node, const std::string& section) {
    if (node.kind == NodeKind::kNull) {
      return;  // a section with nothing in it
    }
    if (node.kind != NodeKind::kMap) {
      throw ConfigError("{}: {} must hold `key: value` lines, not {}", node.origin,
                        section.empty() ? "a configuration" : section, kind_text(node));
    }
    for (std::size_t i = 0; i < node.keys.size(); ++i) {
      apply_entry(node.items[i], section, node.keys[i], node.key_origins[i]);
    }
  }

 private:
  void apply_entry(const DocumentNode& node, const std::string& section, const std::string& name,
                   const std::string& key_origin) {
    const std::string key = joined(section, name);
    for (const Field& field : list_.fields) {
      if (field.section == section && field.name == name) {
        std::visit([&](auto* member) { set(*member, node, field); }, field.value);
        origins_[key] = key_origin;
        return;
      }
    }
    for (const Section& known : list_.sections) {
      if (known.key == key) {
        apply(node, key);
        return;
      }
    }
    if (unknown_ == UnknownKeys::kRefuse) {
      refuse(section, name, key_origin);
    }
  }

  // Names of what a section holds.
  std::vector<std::string> names_in(const std::string& section) const {
    std::vector<std::string> names;
    for (const Field& field : list_.fields) {
      if (field.section == section) {
        names.push_back(field.name);
      }
    }
    for (const Section& known : list_.sections) {
      const std::size_t dot = known.key.rfind('.');
      const std::string parent = dot == std::string::npos ? "" : known.key.substr(0, dot);
      if (parent == section) {
        names.push_back(dot == std::string::npos ? known.key : known.key.substr(dot + 1));
      }
    }
    return names;
  }

  // The nearest key here, or a nearer one in another section: a value often only sits wrong.
  std::string suggestion(const std::string& section, const std::string& name) const {
    const std::string near = nearest_word(name, names_in(section));
    int distance = near.empty() ? std::numeric_limits<int>::max() : edit_distance(name, near);
    std::string best = near.empty() ? "" : joined(section, near);
    for (const Field& field : list_.fields) {
      const bool close = !nearest_word(name, {field.name}).empty();
      if (close && edit_distance(name, field.name) < distance) {
        distance = edit_distance(name, field.name);
        best = field.key();
      }
    }
    return best;
  }

  [[noreturn]] void refuse(const std::string& section, const std::string& name,
                           const std::string& origin) const {
    for (const Field& field : list_.fields) {
      if (section.empty() && field.key() == name) {
        throw ConfigError("{}: {}: write it nested: `{}:` and below it `{}: …`", origin, name,
                          field.section, field.name);
      }
    }
    constexpr std::size_t kShown = 200;
    const std::string key = joined(section, name).substr(0, kShown);
    if (name == "<<") {
      throw ConfigError("{}: {}: merge keys are not supported; use `extends:` or repeat the values",
                        origin, key);
    }
    const std::string near = suggestion(section, name);
    if (near.empty()) {
      throw ConfigError("{}: {}: unknown key; known here: {}", origin, key,
                        comma_list(names_in(section)));
    }
    throw ConfigError("{}: {}: unknown key; did you mean '{}'?", origin, key, near);
  }

  const FieldList& list_;
  UnknownKeys unknown_;
  std::map<std::string, std::string>& origins_;
};

}  // namespace

void apply_document(const DocumentNode& document, const FieldList& list, UnknownKeys unknown,
                    std::map<std::string, std::string>& origins) {
  Reader(list, unknown, origins).apply(document, "");
}

}  // namespace stemfabric
