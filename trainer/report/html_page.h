// Parts that report pages share. Everything is in one file: no scripts, nothing loaded.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace stemfabric {

// Up to and with the heading.
std::string open_page(const std::string& title, const std::string& heading);
std::string close_page();

// Names and values in two columns; entries without a value are left out.
std::string value_list(const std::vector<std::pair<std::string, std::string>>& entries);

// A configuration as text that can be read, below a heading. `hint` says where it comes from.
std::string configuration_section(const std::string& yaml, const std::string& hint);
// A JSON object in the form of YAML: one key per line, lists in brackets. Empty if it is none.
std::string yaml_from_json(const std::string& json);

}  // namespace stemfabric
