// A command of the executable. main.cpp holds the table of them.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace stemfabric::cli {

// Adds the command to the application; the callback that CLI11 runs stores what to do in `run`,
// which main() calls after parsing and which returns the exit status.
using Run = std::function<int()>;

// Exit statuses beside those of errors (runtime/core/check.h).
inline constexpr int kExitInterrupted = 75;  // EX_TEMPFAIL: run the same command again

void add_sanitize_command(CLI::App& app, Run& run);
void add_dataset_command(CLI::App& app, Run& run);
void add_demo_songs_command(CLI::App& app, Run& run);
void add_features_command(CLI::App& app, Run& run);
void add_ingest_command(CLI::App& app, Run& run);
void add_train_command(CLI::App& app, Run& run);
void add_evaluate_command(CLI::App& app, Run& run);
void add_predict_command(CLI::App& app, Run& run);
void add_separate_command(CLI::App& app, Run& run);
void add_export_command(CLI::App& app, Run& run);
void add_bss_eval_command(CLI::App& app, Run& run);
void add_run_command(CLI::App& app, Run& run);
void add_bench_command(CLI::App& app, Run& run);
void add_config_command(CLI::App& app, Run& run);
void add_doctor_command(CLI::App& app, Run& run);

}  // namespace stemfabric::cli
