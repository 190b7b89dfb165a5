// Where a data set goes: output_dir / run_label, which appears whole or not at all.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace stemfabric {

// A plain folder name of 1 to 200 bytes of UTF-8 without control characters; else a UsageError.
void check_run_label(const std::string& label);

// Checks the label and the target, then fills a folder beside it with `fill` and renames it into
// place. An existing target is a UsageError unless `overwrite`; even then it is replaced only if
// it holds nothing but parts of a data set. Returns the target.
std::filesystem::path write_dataset_folder(
    const std::filesystem::path& output_dir, const std::string& run_label, bool overwrite,
    const std::function<void(const std::filesystem::path&)>& fill);

}  // namespace stemfabric
