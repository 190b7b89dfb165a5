#include "trainer/training/preflight.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "kernels/attention/attention_cudnn.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "trainer/device_context.h"
#include "trainer/training/prefetch.h"
#include "trainer/training/train_step.h"

namespace stemfabric {
namespace {

constexpr int64_t kScratchBytes = int64_t{64} << 20;  // left free at least, where there is as much

double percent(int64_t part, int64_t whole) {
  return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string mebibytes(std::size_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

void audit_sample(const Batch& batch, DataAudit& audit) {
  const int64_t tokens = batch.input_mask.shape()[1];
  const int64_t outputs = batch.targets.shape()[3];
  const auto* key = batch.input_mask.as<uint8_t>();
  const auto* mask = batch.target_mask.as<uint8_t>();
  for (int64_t t = 0; t < tokens; ++t) {
    audit.present_tokens += key[t] != 0;
  }
  for (std::size_t s = 0; s < kStemCount; ++s) {
    for (int64_t t = 0; t < tokens; ++t, mask += outputs) {
      if (key[t] != 0) {
        audit.targets[s] += std::count_if(mask, mask + outputs, [](uint8_t m) { return m != 0; });
      }
    }
  }
}

void log_audit(const char* split, const DataAudit& audit) {
  std::string shares;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    shares += fmt::format("{}{} {:.1f} %", s == 0 ? "" : ", ", kStemNames[s],
                          percent(audit.targets[s], audit.possible_targets));
  }
  log_info("{}: {} samples of {} tokens, {:.1f} % present, all values finite; supervised: {}",
           split, audit.samples, audit.tokens,
           percent(audit.present_tokens, audit.samples * audit.tokens), shares);
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (audit.targets[s] == 0) {
      log_warning("{}: stem {} has no supervised target: {}", split, kStemNames[s],
                  std::string_view(split) == "training" ? "its head learns nothing"
                                                        : "its loss is reported as 0");
    }
  }
}

// Of attention by cuDNN; that of our kernels is small.
std::size_t attention_scratch(const ModelConfig& model, const Separator::Limits& limits) {
  const bool by_cudnn = limits.cudnn && limits.relu_masks &&  // on a GPU
                        limits.precision == DType::kBF16 &&
                        model.attention.activation == "softmax" && model.attention.dropout == 0;
  const std::size_t bytes =
      by_cudnn ? cuda::cudnn_scratch_bytes(limits.batch, limits.tokens, model.heads) : 0;
  return bytes <= cuda::kMostCudnnScratch ? bytes : 0;
}

}  // namespace

DataAudit audit_data(const Dataset& dataset, const std::filesystem::path& source) {
  DataAudit audit{.samples = dataset.size(),
                  .tokens = dataset.tokens(),
                  .possible_targets = dataset.size() * dataset.tokens() * dataset.outputs()};
  Batch batch(1, dataset.tokens(), dataset.features(), dataset.outputs());
  for (int64_t i = 0; i < dataset.size(); ++i) {
    dataset.gather(std::span(&i, 1), batch);
    audit_sample(batch, audit);
  }
  if (std::accumulate(audit.targets.begin(), audit.targets.end(), int64_t{0}) == 0) {
    throw InputError(
        "{}: no target of any stem is supervised on a present token; there is nothing "
        "to learn from these {} samples",
        source.string(), audit.samples);
  }
  return audit;
}

Separator::Limits training_limits(const TrainingConfig& config, int64_t batch_size, int64_t tokens,
                                  const Device& device) {
  return {.batch = batch_size,
          .tokens = tokens,
          .training = true,
          .precision = precision_dtype(config.precision),
          .cudnn = config.cudnn == "auto",
          .relu_masks = device.kind != DeviceKind::kCpu};
}

int64_t batches_held(const StepPlan& plan, const Device& device) {
  return std::min(plan.accumulation, plan.micro_batches_in_step(0)) *
         static_cast<int64_t>(1 + steps_ahead(device));
}

MemoryEstimate estimate_memory(const TrainingConfig& config, const TrainingSetup& setup,
                               const TrainingTask& task, const ParameterTable& table,
                               const Separator::Limits& limits, const StepPlan& plan,
                               const Device& device) {
  const auto block = static_cast<std::size_t>(table.block_elements()) * sizeof(float);
  const int64_t batches = Prefetcher::batches(batches_held(plan, device)) +
                          (task.validation() != nullptr ? Prefetcher::batches(1) : 0);
  const int64_t in_step = std::min(plan.accumulation, plan.micro_batches_in_step(0));
  const bool rounds_gradients =
      plan.ranks > 1 && setup.config.distributed.gradient_precision == "bf16";
  // Weights, gradients, two moments and the best weights; the moving average if it is on; weights
  // in bf16 if products take those, gradients in bf16 if they are sent so. On CPUs
  // ordered sums of all gradients may be under way at once, and each holds as many bytes as it has.
  return {.parameters = block * (config.ema_momentum > 0 ? 6 : 5) +
                        (limits.precision == DType::kBF16 ? block / 2 : 0) +
                        (rounds_gradients ? block / 2 : 0),
          .activations =
              plan_activation_bytes(setup.model, limits) + attention_scratch(setup.model, limits),
          .batches = task.batch_bytes(batches * plan.batch_size),
          .staged = task.staged_bytes(in_step * plan.batch_size, device.kind == DeviceKind::kCpu),
          .sums = plan.ranks > 1 && device.kind == DeviceKind::kCpu &&
                          setup.config.distributed.deterministic
                      ? block
                      : 0};
}

std::string batch_size_advice(const TrainingConfig& config, const TrainingSetup& setup,
                              const Device& device, int64_t available, int64_t ranks) {
  const std::unique_ptr<TrainingTask> task =
      make_training_task(setup, resident_limit(config, device, available));
  const SampleSource& data = task->train();
  const ParameterTable table(setup.model);
  const int64_t wanted = std::min(config.batch_size, (data.size() + ranks - 1) / ranks);
  const bool on_cpu = device.kind == DeviceKind::kCpu;
  const auto need = [&](int64_t batch_size) {
    const StepPlan plan{.samples = data.size(),
                        .batch_size = batch_size,
                        .accumulation = config.gradient_accumulation_steps,
                        .ranks = ranks};
    const MemoryEstimate m =
        estimate_memory(config, setup, *task, table,
                        training_limits(config, batch_size, data.tokens(), device), plan, device);
    return m.parameters + m.activations + m.staged + (on_cpu ? m.batches + m.sums : 0);
  };
  const std::string planned = fmt::format("training.batch_size {} is planned to take {} on {}",
                                          wanted, mebibytes(need(wanted)), device.to_string());
  if (wanted == 1) {
    return fmt::format("; {}: use a smaller model or shorter sequences", planned);
  }
  if (available < 0) {
    return fmt::format("; {}: use a smaller one with more training.gradient_accumulation_steps",
                       planned);
  }
  // Some is left for the ops' scratch, which the plan does not hold.
  const auto scratch = std::max(available / 10, std::min(kScratchBytes, available / 4));
  const auto usable = static_cast<std::size_t>(available - scratch);
  const std::string situation = fmt::format("; {}, where {} were free", planned,
                                            mebibytes(static_cast<std::size_t>(available)));
  if (need(1) > usable) {
    return situation + "; not even training.batch_size 1 fits: use a smaller model";
  }
  if (need(wanted) <= usable) {  // what failed is not what was planned
    return fmt::format("{}; try training.batch_size {}", situation, wanted / 2);
  }
  int64_t fits = 1;
  for (int64_t too_large = wanted; fits + 1 < too_large;) {
    const int64_t middle = fits + (too_large - fits) / 2;
    (need(middle) <= usable ? fits : too_large) = middle;
  }
  return fmt::format(
      "{}; training.batch_size {} would fit (keep the samples per step with "
      "training.gradient_accumulation_steps)",
      situation, fits);
}

void log_snapshot_audit(const TrainingSetup& setup) {
  log_audit("training", audit_data(*setup.data.train, setup.data.root));
  if (setup.data.validation) {
    log_audit("validation", audit_data(*setup.data.validation, setup.data.root / "validation"));
  }
}

void log_preflight(const TrainingConfig& config, const TrainingSetup& setup,
                   const TrainingTask& task, const ParameterTable& table,
                   const Separator::Limits& limits, const StepPlan& plan,
                   const ExecutionContext& ctx) {
  const ModelConfig& model = setup.model;
  log_info("device {}", describe_context(ctx));
  log_info("data set {} (hash {:.12}): {} features per token, {} outputs per stem and token",
           setup.data.root.string(), setup.data.hash, model.input_dim, model.output_dim);
  task.log_audit();
  if (task.validation() == nullptr) {
    log_warning(
        "{} has no validation split: learning rate, early stopping and the best weights "
        "go by the training loss",
        setup.data.root.string());
  }
  log_info("model: {} parameters; dim {}, {} blocks, {} heads, feed-forward {}, attention {}",
           table.parameter_count(), model.dim, model.depth, model.heads, model.dim_ff,
           model.attention.activation);
  const MemoryEstimate memory =
      estimate_memory(config, setup, task, table, limits, plan, ctx.device());
  if (ctx.is_cpu()) {
    const std::size_t batches = memory.batches + memory.staged;
    log_info("memory: {} for parameters and optimiser, {} activations, {} batches{}; {} in all",
             mebibytes(memory.parameters), mebibytes(memory.activations), mebibytes(batches),
             memory.sums > 0 ? fmt::format(", {} sums over ranks", mebibytes(memory.sums)) : "",
             mebibytes(memory.parameters + memory.activations + batches + memory.sums));
  } else {
    const int64_t free = ctx.resource().available_bytes();
    log_info(
        "memory on {}: {} for parameters and optimiser, {} activations, {} batches{}; host: {} for "
        "batches",
        ctx.device().to_string(), mebibytes(memory.parameters), mebibytes(memory.activations),
        mebibytes(memory.staged),
        free < 0 ? "" : fmt::format("; {} still free", mebibytes(static_cast<std::size_t>(free))),
        mebibytes(memory.batches));
  }
  const double seconds = static_cast<double>(plan.samples_per_step()) * task.train().seconds();
  log_info(
      "each step: {} samples ({} x {} micro-batches on {} process{}), {} tokens{}; {} steps per "
      "epoch",
      plan.samples_per_step(), plan.batch_size, plan.accumulation, plan.ranks,
      plan.ranks == 1 ? "" : "es", plan.samples_per_step() * task.train().tokens(),
      seconds > 0 ? fmt::format(", {:.1f} s of audio", seconds) : "", plan.steps_per_epoch());
}

}  // namespace stemfabric
