// The directions out of a configuration: YAML, JSON, JSON Schema; and JSON back in.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "trainer/config/config_io.h"
#include "trainer/config/config_reader.h"

namespace stemfabric {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kAudioEntry = "audio";  // of a model of masks: ModelConfig::audio

int depth_of(const std::string& key) {
  return static_cast<int>(std::count(key.begin(), key.end(), '.'));
}

// The object that stands for a section; created with the sections above it.
Json& section_of(Json& root, const std::string& section, const std::string& below = "") {
  Json* object = &root;
  for (std::size_t begin = 0; begin < section.size();) {
    const std::size_t end = std::min(section.find('.', begin), section.size());
    if (!below.empty()) {
      object = &(*object)[below];
    }
    object = &(*object)[section.substr(begin, end - begin)];
    begin = end + 1;
  }
  return *object;
}

Json value_to_json(const Field& field) {
  return std::visit([](const auto* value) { return Json(*value); }, field.value);
}

std::string fields_to_json(const FieldList& list) {
  Json root = Json::object();
  for (const Field& field : list.fields) {
    section_of(root, field.section)[field.name] = value_to_json(field);
  }
  return root.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <typename T>
T struct_from_json(const std::string& text, const std::string& source, UnknownKeys unknown) {
  T object;
  std::map<std::string, std::string> origins;
  const DocumentNode document = parse_json(text, source);
  if (document.kind != NodeKind::kMap) {
    throw InputError("{}: the configuration must be a JSON object", source);
  }
  try {
    apply_document(document, list_fields(object), unknown, origins);
  } catch (const ConfigError& error) {
    throw InputError("{}", error.what());
  }
  return object;
}

Json bound_to_json(const Field& field, double bound) {
  return std::holds_alternative<int64_t*>(field.value) ? Json(static_cast<int64_t>(bound))
                                                       : Json(bound);
}

Json field_schema(const Field& field) {
  Json schema = {{"description", field.help}};
  const auto limits = [&](Json& target) {
    if (std::isfinite(field.constraint.min)) {
      target["minimum"] = bound_to_json(field, field.constraint.min);
    }
    if (std::isfinite(field.constraint.max)) {
      target["maximum"] = bound_to_json(field, field.constraint.max);
    }
  };
  if (std::holds_alternative<bool*>(field.value)) {
    schema["type"] = "boolean";
  } else if (std::holds_alternative<int64_t*>(field.value)) {
    schema["type"] = "integer";
    limits(schema);
  } else if (std::holds_alternative<double*>(field.value)) {
    schema["type"] = "number";
    limits(schema);
  } else if (std::holds_alternative<std::string*>(field.value)) {
    schema["type"] = "string";
    if (!field.constraint.choices.empty()) {
      schema["enum"] = field.constraint.choices;
    }
  } else {
    schema["type"] = "array";
    schema["items"] = {{"type", "number"}};
    limits(schema["items"]);
  }
  schema["default"] = value_to_json(field);
  return schema;
}

}  // namespace

std::string config_to_yaml(const LoadedConfig& loaded, bool with_origins) {
  Config copy = loaded.config;  // listing needs a mutable object
  const FieldList list = list_fields(copy);
  std::string text;
  std::size_t next_section = 0;
  for (const Field& field : list.fields) {
    // Sections are listed in the order of their fields, outer ones first.
    while (next_section < list.sections.size() &&
           (field.section + ".").starts_with(list.sections[next_section].key + ".")) {
      const Section& section = list.sections[next_section++];
      const int indent = 2 * depth_of(section.key);
      text += fmt::format("{}{:{}}# {}\n", indent == 0 && !text.empty() ? "\n" : "", "", indent,
                          section.help);
      text += fmt::format("{:{}}{}:\n", "", indent, section.key.substr(section.key.rfind('.') + 1));
    }
    const int indent = 2 * (depth_of(field.key()));
    const std::string line =
        fmt::format("{:{}}{}: {}", "", indent, field.name, value_to_yaml(field));
    if (with_origins) {
      const auto origin = loaded.origins.find(field.key());
      text += fmt::format("{:<44}  # {}\n", line,
                          origin == loaded.origins.end() ? "default" : origin->second);
    } else {
      text += fmt::format("{:{}}# {}\n{}\n", "", indent, field.help, line);
    }
  }
  return text;
}

std::string config_to_json(const Config& config) {
  Config copy = config;
  return fields_to_json(list_fields(copy));
}

std::string model_config_to_json(const ModelConfig& config) {
  ModelConfig copy = config;
  const std::string text = fields_to_json(list_fields(copy));
  if (!copy.audio) {
    return text;
  }
  Json json = Json::parse(text);
  json[kAudioEntry] = Json::parse(fields_to_json(list_fields(*copy.audio)));
  return json.dump();
}

Config config_from_json(const std::string& text, const std::string& source) {
  return struct_from_json<Config>(text, source, UnknownKeys::kRefuse);
}

ModelConfig model_config_from_json(const std::string& text, const std::string& source) {
  auto model = struct_from_json<ModelConfig>(text, source, UnknownKeys::kIgnore);
  const Json json = Json::parse(text);
  if (const auto audio = json.find(kAudioEntry); audio != json.end()) {
    model.audio = struct_from_json<AudioConfig>(
        audio->dump(), fmt::format("{}: {}", source, kAudioEntry), UnknownKeys::kIgnore);
  }
  return model;
}

std::string config_json_schema() {
  Config config;
  const FieldList list = list_fields(config);
  Json root = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
               {"title", "stemfabric configuration"},
               {"type", "object"},
               {"additionalProperties", false}};
  root["properties"]["extends"] = {
      {"type", "string"}, {"description", "configuration file, relative to this one, read before"}};
  for (const Section& section : list.sections) {
    Json& object = section_of(root, section.key, "properties");
    object["type"] = "object";
    object["description"] = section.help;
    object["additionalProperties"] = false;
  }
  for (const Field& field : list.fields) {
    section_of(root, field.section, "properties")["properties"][field.name] = field_schema(field);
  }
  return root.dump(2) + "\n";
}

}  // namespace stemfabric
