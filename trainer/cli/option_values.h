// What the value of an option may be, checked with words of ours: the parser's own checks speak of
// "Value abc not in range 0.000000 to 1.000000".
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace stemfabric::cli {

CLI::Validator whole_number(int64_t least, int64_t most);
CLI::Validator real_number(double least, double most);  // most may be infinity: then any finite one
CLI::Validator one_of(std::vector<std::string> words);

}  // namespace stemfabric::cli
