// Members of our own JSON files, read with errors of ours that name file (`source`) and key.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace stemfabric {

// A JSON object of bounded depth: what follows walks it recursively.
nlohmann::json parse_json_object(const std::string& text, const std::string& source);

const nlohmann::json& json_member(const nlohmann::json& json, const char* key,
                                  const std::string& source);

// `value`, which is the one of `key`, as bool, int64_t, uint64_t, double or std::string; integers
// must be integers in range, not rounded numbers.
template <typename T>
T json_value(const nlohmann::json& value, const char* key, const std::string& source);

// The member of that name as T.
template <typename T>
T json_field(const nlohmann::json& json, const char* key, const std::string& source) {
  return json_value<T>(json_member(json, key, source), key, source);
}

}  // namespace stemfabric
