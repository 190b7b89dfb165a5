// Comma-separated values (RFC 4180): quoted fields, doubled quotes, line breaks of either kind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace stemfabric {

struct CsvRow {
  int64_t line = 0;  // where it begins, from 1
  std::vector<std::string> fields;
};

// Empty lines are left out. InputError that names file and line for a quote out of place.
std::vector<CsvRow> parse_csv(std::string_view text, const std::filesystem::path& file);

}  // namespace stemfabric
