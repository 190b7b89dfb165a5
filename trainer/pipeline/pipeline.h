// The whole way from exported snapshots to an evaluated model: what `stemfabric run` does.
//
//   <output_dir>/<run_label>/
//     pipeline.json          what this folder was made from, and which stages are done
//     sanitized.jsonl        records                 sanitize_report.json   verdicts
//     dataset/               shards and manifest
//     run/                   the training run: checkpoints, metrics, final model
//     evaluation/            evaluation_report.json, report.html
//
// Called again with the same label it goes on where it was stopped: stages that are done are kept,
// training resumes from its newest checkpoint. Other snapshots, or settings that would have made
// another data set, are refused once there is something trained; before, all is made anew.
#pragma once

#include <filesystem>
#include <string>

#include "trainer/config/config_io.h"
#include "trainer/evaluation/evaluate.h"
#include "trainer/pipeline/pipeline_state.h"
#include "trainer/training/training.h"

namespace stemfabric {

struct PipelineOptions {
  std::filesystem::path snapshot_dir;
  std::filesystem::path output_dir;
  std::string run_label;
  LoadedConfig config;
  std::string resume = "auto";  // of the training: auto, never, or the path of a checkpoint
};

struct PipelineResult {
  std::filesystem::path folder;  // output_dir / run_label
  bool resumed = false;          // some stage was kept from an earlier call
  SanitizeCounts sanitize;
  DatasetCounts dataset;
  TrainingResult training;
  std::string evaluated_split = "validation";  // "train" if there are no validation records
  EvaluateResult evaluation;                   // not filled if the training was interrupted
};

// Errors: UsageError for a label that is no plain name or a folder made from something else,
// InputError if no snapshot is accepted, and those of the stages. After a signal in training the
// result's training.end is kInterrupted and nothing is evaluated.
PipelineResult run_pipeline(const PipelineOptions& options);

}  // namespace stemfabric
