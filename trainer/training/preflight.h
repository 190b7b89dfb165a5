// What is said before a run starts: what the data hold, how big the model is, what a step takes.
#pragma once

#include <array>
#include <cstdint>

#include "trainer/model/separator.h"
#include "trainer/training/sample_order.h"
#include "trainer/training/training_setup.h"
#include "trainer/training/training_task.h"

namespace stemfabric {

struct DataAudit {
  int64_t samples = 0;
  int64_t tokens = 0;          // per sample
  int64_t present_tokens = 0;  // over all samples
  // Per stem: targets that count in the loss (supervised, on a present token), of how many.
  std::array<int64_t, kStemCount> targets{};
  int64_t possible_targets = 0;
};
// Reads every sample once. InputError if nothing at all is supervised, for then nothing can be
// learned. (That every value is finite is checked when the data set is opened.)
DataAudit audit_data(const Dataset& dataset, const std::filesystem::path& source);
// Audits both splits and says in the log what they hold.
void log_snapshot_audit(const TrainingSetup& setup);

struct MemoryEstimate {
  std::size_t parameters = 0;  // weights, gradients, moments, moving average, best weights
  std::size_t activations = 0;
  std::size_t batches = 0;  // on the host
  std::size_t staged = 0;   // what the ops read of them: copies on a GPU, and spectra
  std::size_t sums = 0;     // on the host: parts of gradients that other ranks send, at most
};
MemoryEstimate estimate_memory(const TrainingConfig& config, const TrainingSetup& setup,
                               const TrainingTask& task, const ParameterTable& table,
                               const Separator::Limits& limits, const StepPlan& plan,
                               const Device& device);
// What a run's model is planned for on a device.
Separator::Limits training_limits(const TrainingConfig& config, int64_t batch_size, int64_t tokens,
                                  const Device& device);
// Micro-batches that steps hold at once: the one that is launched, and those not read yet.
int64_t batches_held(const StepPlan& plan, const Device& device);

// What to do when memory runs out on a device of which `available` bytes were free (-1: unknown),
// to follow the error's text: the batch size that fits by the plan of the activations, if one does.
// `ranks`: of the run.
std::string batch_size_advice(const TrainingConfig& config, const TrainingSetup& setup,
                              const Device& device, int64_t available, int64_t ranks);

// Writes all of it to the log.
void log_preflight(const TrainingConfig& config, const TrainingSetup& setup,
                   const TrainingTask& task, const ParameterTable& table,
                   const Separator::Limits& limits, const StepPlan& plan,
                   const ExecutionContext& ctx);

}  // namespace stemfabric
