#include "trainer/config/config_io.h"

#include <fmt/core.h>

#include <algorithm>
#include <system_error>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/config/config_reader.h"

namespace stemfabric {
namespace {

constexpr uint64_t kMaxFileBytes = 1 << 20;
constexpr std::size_t kMaxExtends = 16;

std::string read_config_file(const std::filesystem::path& path, const std::string& asked_by) {
  try {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) {
      throw IoError("{} is a folder, not a configuration file", path.string());
    }
    if (!std::filesystem::exists(path, error)) {
      throw IoError("there is no configuration file {}", path.string());
    }
    std::string text = read_text_file(path, kMaxFileBytes);
    if (text.empty()) {
      throw IoError("{} is empty; a configuration of defaults alone is written `{{}}`",
                    path.string());
    }
    return text;
  } catch (const IoError& error) {
    // An unreadable configuration is a wrong configuration (exit status 2).
    throw ConfigError("{}{}", asked_by, error.what());
  }
}

// Takes the entry `extends:` out of a configuration; empty if it has none.
DocumentNode take_extends(DocumentNode& document) {
  const auto found = std::find(document.keys.begin(), document.keys.end(), "extends");
  if (document.kind != NodeKind::kMap || found == document.keys.end()) {
    return {};
  }
  const auto index = found - document.keys.begin();
  DocumentNode extends = std::move(document.items[static_cast<std::size_t>(index)]);
  if (extends.kind != NodeKind::kScalar) {
    throw ConfigError("{}: extends: must be the path of one other configuration file",
                      extends.origin);
  }
  document.keys.erase(found);
  document.items.erase(document.items.begin() + index);
  document.key_origins.erase(document.key_origins.begin() + index);
  return extends;
}

// Applies the files that `path` extends, the furthest first, then `path`.
void apply_file(const std::filesystem::path& path, const std::string& asked_by,
                std::vector<std::filesystem::path>& open, const FieldList& list,
                std::map<std::string, std::string>& origins) {
  const std::string text = read_config_file(path, asked_by);
  std::error_code error;
  const auto canonical = std::filesystem::canonical(path, error);
  if (std::find(open.begin(), open.end(), canonical) != open.end()) {
    throw ConfigError("{}{} extends itself in a circle", asked_by, path.string());
  }
  if (open.size() >= kMaxExtends) {
    throw ConfigError("{}more than {} files extend one another", asked_by, kMaxExtends);
  }
  open.push_back(canonical);
  DocumentNode document = parse_yaml(text, path.string(), true);
  const DocumentNode extends = take_extends(document);
  if (extends.kind == NodeKind::kScalar) {
    apply_file((path.parent_path() / extends.text).lexically_normal(),
               extends.origin + ": extends: ", open, list, origins);
  }
  apply_document(document, list, UnknownKeys::kRefuse, origins);
}

// training.lr=1e-4 as the tree that a file with these two lines would give.
DocumentNode override_document(const ConfigOverride& override_) {
  DocumentNode node;
  try {
    node = parse_yaml(override_.value, override_.origin, false);
  } catch (const ConfigError& error) {
    throw ConfigError("{} (the value of {})", error.what(), override_.key);
  }
  std::string rest = override_.key;
  while (true) {
    const std::size_t dot = rest.rfind('.');
    const std::string name = dot == std::string::npos ? rest : rest.substr(dot + 1);
    if (name.empty()) {
      throw ConfigError("{}: '{}' is no key; write section.key=value", override_.origin,
                        override_.key);
    }
    DocumentNode map;
    map.kind = NodeKind::kMap;
    map.origin = override_.origin;
    map.keys = {name};
    map.key_origins = {override_.origin};
    map.items.push_back(std::move(node));
    node = std::move(map);
    if (dot == std::string::npos) {
      return node;
    }
    rest.resize(dot);
  }
}

}  // namespace

bool LoadedConfig::is_set(const std::string& key) const {
  const auto found = origins.find(key);
  return found != origins.end() && found->second != "default";
}

LoadedConfig load_config(const std::filesystem::path& file_or_empty,
                         const std::vector<ConfigOverride>& overrides) {
  LoadedConfig loaded;
  const FieldList list = list_fields(loaded.config);
  for (const Field& field : list.fields) {
    loaded.origins[field.key()] = "default";
  }
  if (!file_or_empty.empty()) {
    std::vector<std::filesystem::path> open;
    apply_file(file_or_empty, "", open, list, loaded.origins);
  }
  for (const ConfigOverride& override_ : overrides) {
    apply_document(override_document(override_), list, UnknownKeys::kRefuse, loaded.origins);
  }
  return loaded;
}

ConfigOverride parse_override(const std::string& text) {
  constexpr std::size_t kMaxKey = 200;
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals > kMaxKey) {
    throw ConfigError("--set: '{}' is not of the form section.key=value", text.substr(0, kMaxKey));
  }
  return {.key = text.substr(0, equals), .value = text.substr(equals + 1)};
}

}  // namespace stemfabric
