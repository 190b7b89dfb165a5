#include "trainer/training/json_fields.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "runtime/core/check.h"

namespace stemfabric {

nlohmann::json parse_json_object(const std::string& text, const std::string& source) {
  constexpr int kMaxDepth = 32;
  const auto bounded = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kMaxDepth) {
      throw InputError("{}: nested deeper than {} levels", source, kMaxDepth);
    }
    return true;
  };
  nlohmann::json json = nlohmann::json::parse(text, bounded, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    throw InputError("{}: holds no JSON object; it is damaged or was edited", source);
  }
  return json;
}

const nlohmann::json& json_member(const nlohmann::json& json, const char* key,
                                  const std::string& source) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  if (!json.is_object() || found == json.end()) {
    throw InputError("{}: lacks `{}`; it is damaged or was edited", source, key);
  }
  return *found;
}

template <typename T>
T json_value(const nlohmann::json& value, const char* key, const std::string& source) {
  bool right = false;
  if constexpr (std::is_same_v<T, bool>) {
    right = value.is_boolean();
  } else if constexpr (std::is_unsigned_v<T>) {
    right = value.is_number_unsigned();
  } else if constexpr (std::is_integral_v<T>) {
    right = value.is_number_integer() &&
            !(value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX});
  } else if constexpr (std::is_floating_point_v<T>) {
    right = value.is_number();
  } else {
    right = value.is_string();
  }
  if (!right) {
    throw InputError("{}: `{}` is {:.60}, which it cannot be; the file is damaged or was edited",
                     source, key,
                     value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  }
  return value.get<T>();
}

template bool json_value<bool>(const nlohmann::json&, const char*, const std::string&);
template int64_t json_value<int64_t>(const nlohmann::json&, const char*, const std::string&);
template uint64_t json_value<uint64_t>(const nlohmann::json&, const char*, const std::string&);
template double json_value<double>(const nlohmann::json&, const char*, const std::string&);
template std::string json_value<std::string>(const nlohmann::json&, const char*,
                                             const std::string&);

}  // namespace stemfabric
