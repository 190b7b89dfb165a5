#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "trainer/config/document.h"

namespace stemfabric {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kMaxBytes = 1 << 20;
constexpr int kMaxDepth = 32;

DocumentNode convert(const Json& json, const std::string& source) {
  DocumentNode node;
  node.origin = source;
  if (json.is_object()) {
    node.kind = NodeKind::kMap;
    for (const auto& [key, value] : json.items()) {
      node.keys.push_back(key);
      node.key_origins.push_back(source);
      node.items.push_back(convert(value, source));
    }
  } else if (json.is_array()) {
    node.kind = NodeKind::kSequence;
    for (const auto& value : json) {
      node.items.push_back(convert(value, source));
    }
  } else if (!json.is_null()) {
    node.kind = NodeKind::kScalar;
    node.quoted = json.is_string();
    node.text = json.is_string()         ? json.get<std::string>()
                : json.is_number_float() ? fmt::format("{}", json.get<double>())
                                         : json.dump();
  }
  return node;
}

}  // namespace

DocumentNode parse_json(const std::string& text, const std::string& source) {
  if (text.size() > kMaxBytes) {
    throw InputError("{}: {} bytes are too many for a configuration (at most {})", source,
                     text.size(), kMaxBytes);
  }
  const auto bounded = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) {
      throw InputError("{}: nested deeper than {} levels", source, kMaxDepth);
    }
    return true;
  };
  try {
    return convert(Json::parse(text, bounded), source);
  } catch (const Json::parse_error& error) {
    throw InputError("{}: not valid JSON at byte {}", source, error.byte);
  } catch (const Json::out_of_range&) {
    throw InputError("{}: holds a number beyond all of double precision", source);
  }
}

}  // namespace stemfabric
