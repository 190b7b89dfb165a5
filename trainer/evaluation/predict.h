// The model's estimates for inputs in .npy files.
#pragma once

#include <cstdint>
#include <filesystem>

#include "runtime/device/execution_context.h"

namespace stemfabric {

struct PredictRequest {
  std::filesystem::path model;       // weights file or folder of a training run
  std::filesystem::path input;       // [B, T, F] of any float type
  std::filesystem::path mask;        // [B, T] bool or integer, 1 = present; empty = all present
  std::filesystem::path output_dir;  // gets <stem>.npy, [B, T, out] float32; made if missing
  int64_t batch_size = 32;
};

// Memory does not grow with B: inputs are mapped and read batch by batch, outputs are written as
// they come and appear under their names when all are complete. InputError that names file,
// expected and found for wrong shapes, dtypes, masks and non-finite values.
void predict(const ExecutionContext& ctx, const PredictRequest& request);

}  // namespace stemfabric
