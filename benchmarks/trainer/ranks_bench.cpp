// What training on several ranks costs, measured where it runs: start it as the training is
// started,
//   mpirun -n 4 build/cpu/benchmarks/trainer/ranks_bench
// First all-reduces by size: time, algorithm bandwidth (bytes / time) and bus bandwidth (algorithm
// bandwidth · 2 (n − 1) / n), as nccl-tests define them, of the median of the rounds, in both
// orders of summation. Then training steps of the default model, the same number of samples in all
// (strong scaling) and per rank (weak scaling): wall time, how much of it a rank waits for sums,
// processor time of all ranks. The last is what counts where ranks share cores: its growth is the
// work that being several adds.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "runtime/collectives/collectives.h"
#include "runtime/collectives/mpi_transport.h"
#include "runtime/core/check.h"
#include "trainer/data/dataset.h"
#include "trainer/training/snapshot_task.h"
#include "trainer/training/train_step.h"

namespace stemfabric {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  int64_t batch = 4;  // samples of a step on one rank
  int64_t tokens = 128;
  int64_t steps = 5;
  int64_t max_bytes = 1 << 26;
  int64_t bucket_bytes = 1 << 22;
};

constexpr const char* kUsage =
    "ranks_bench [--batch 4] [--tokens 128] [--steps 5] [--max-bytes 67108864]\n"
    "            [--bucket-bytes 4194304]\n";

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; i += 2) {
    const std::string key = argv[i];
    int64_t* value = key == "--batch"          ? &o.batch
                     : key == "--tokens"       ? &o.tokens
                     : key == "--steps"        ? &o.steps
                     : key == "--max-bytes"    ? &o.max_bytes
                     : key == "--bucket-bytes" ? &o.bucket_bytes
                                               : nullptr;
    if (value == nullptr || i + 1 == argc || (*value = std::atoll(argv[i + 1])) < 1) {
      throw UsageError("'{}' is unknown or lacks a value above 0\n{}", key, kUsage);
    }
  }
  return o;
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// The mean over ranks; all get it.
double mean_over(Collectives& ranks, double value) {
  ranks.all_reduce(std::span(&value, 1), "a result");
  return value / ranks.size();
}

// Seconds of one all-reduce: of a middle and of the fastest round, each the mean over ranks.
struct RoundSeconds {
  double median, best;
};
RoundSeconds all_reduce_seconds(Collectives& ranks, std::vector<float>& data) {
  const auto bytes = static_cast<double>(data.size() * sizeof(float));
  const int rounds = std::clamp(static_cast<int>(2e8 / bytes), 5, 200);
  std::vector<double> seconds;
  for (int i = 0; i < rounds + 2; ++i) {
    ranks.barrier("before a round");
    const auto begin = Clock::now();
    ranks.all_reduce(TensorView(data.data(), DType::kF32, Shape{static_cast<int64_t>(data.size())}),
                     "a round");
    if (i >= 2) {
      seconds.push_back(seconds_since(begin));
    }
  }
  return {.median = mean_over(ranks, median(seconds)),
          .best = mean_over(ranks, *std::ranges::min_element(seconds))};
}

void all_reduces(Collectives& ranks, const Options& o, const char* order) {
  if (ranks.first()) {
    fmt::print("all-reduce of f32, {} ranks, sums in {}\n{:>12} {:>10} {:>10} {:>12} {:>12}\n",
               ranks.size(), order, "bytes", "best us", "median us", "algbw GB/s", "busbw GB/s");
  }
  const double n = ranks.size();
  for (int64_t bytes = 64; bytes <= o.max_bytes; bytes *= 8) {
    std::vector<float> data(static_cast<std::size_t>(bytes) / sizeof(float), 1.0F);
    const RoundSeconds seconds = all_reduce_seconds(ranks, data);
    if (ranks.first()) {
      const double bandwidth = static_cast<double>(bytes) / seconds.median / 1e9;
      fmt::print("{:>12} {:>10.1f} {:>10.1f} {:>12.3f} {:>12.3f}\n", bytes, 1e6 * seconds.best,
                 1e6 * seconds.median, bandwidth, bandwidth * 2 * (n - 1) / n);
    }
  }
}

ModelConfig default_model(int64_t tokens) {
  ModelConfig config;
  config.input_dim = 256;
  config.output_dim = 256;
  config.max_sequence_length = tokens;
  return config;
}

void fill(Batch& batch, int64_t size) {
  batch.size = size;
  std::fill_n(batch.inputs.as<float>(), batch.inputs.elements(), 0.5F);
  std::fill_n(batch.input_mask.as<uint8_t>(), batch.input_mask.elements(), uint8_t{1});
  std::fill_n(batch.targets.as<float>(), batch.targets.elements(), 0.25F);
  std::fill_n(batch.target_mask.as<uint8_t>(), batch.target_mask.elements(), uint8_t{1});
  std::fill_n(batch.stem_weight.as<float>(), batch.stem_weight.elements(), 1.0F);
}

void training_steps(Collectives& ranks, const Options& o, int64_t batch_size, const char* scaling,
                    int64_t bucket_bytes, const char* overlap) {
  const ExecutionContext ctx({.device = {}, .threads = 1});
  const ModelConfig config = default_model(o.tokens);
  Separator model(ctx, config, {.batch = batch_size, .tokens = o.tokens, .training = true});
  model.parameters().initialize(model.weights().as<float>(), 1);
  Optimizer optimizer(ctx, {}, model.parameters().block_elements(),
                      model.parameters().decayed_elements());
  SnapshotObjective objective(ctx);
  SnapshotStage stage(ctx, std::vector<double>(kStemCount, 1.0));
  TrainStep step(ctx, {.seed = 1, .ranks = &ranks, .gradients = {.bucket_bytes = bucket_bytes}},
                 model, optimizer, nullptr, objective, stage);
  Batch batch(batch_size, o.tokens, config.input_dim, config.output_dim);
  fill(batch, batch_size);
  batch.first_in_step = batch_size * ranks.rank();
  const SampleBatch* batches[] = {&batch};
  std::vector<double> wall, waited, processor;
  for (int64_t i = 0; i < o.steps + 1; ++i) {
    PhaseTimes times;
    ranks.barrier("before a step");
    const auto begin = Clock::now();
    const double before = processor_seconds();
    step.run(batches, i, 1e-3, times);
    if (i > 0) {  // the first one touches all memory
      wall.push_back(seconds_since(begin));
      processor.push_back(processor_seconds() - before);
      waited.push_back(times[Phase::kReduction]);
    }
  }
  const double seconds = mean_over(ranks, median(wall));
  const double share = mean_over(ranks, median(waited)) / seconds;
  const double all = ranks.size() * mean_over(ranks, median(processor));
  if (ranks.first()) {
    fmt::print("{:>6} {:>14} {:>8} {:>9} {:>9.1f} {:>10.1f} {:>12.1f} {:>14.2f}\n", ranks.size(),
               scaling, overlap, batch_size, 1e3 * seconds, 100 * share, 1e3 * all,
               1e3 * all / static_cast<double>(batch_size * ranks.size()));
  }
}

int run(const Options& o) {
  std::unique_ptr<Transport> transport = join_ranks();
  const bool several = transport != nullptr;
  Collectives alone;
  std::unique_ptr<Collectives> joined;
  if (several) {
    joined = std::make_unique<Collectives>(
        std::move(transport),
        Collectives::Options{.timeout_s = 600, .ordered = true, .interrupted = {}});
  }
  Collectives& ranks = several ? *joined : alone;
  if (several) {
    all_reduces(ranks, o, "the order of the ranks");
    ranks.set_ordered(false);
    all_reduces(ranks, o, "the order that MPI chooses");
    ranks.set_ordered(true);
  }
  if (ranks.first()) {
    fmt::print(
        "steps of the default model ({} parameters), {} tokens a sample, one thread a rank\n",
        ParameterTable(default_model(o.tokens)).parameter_count(), o.tokens);
    fmt::print("{:>6} {:>14} {:>8} {:>9} {:>9} {:>10} {:>12} {:>14}\n", "ranks", "scaling",
               "buckets", "samples", "ms/step", "waiting %", "CPU ms, all", "CPU ms/sample");
  }
  constexpr int64_t kOneBucket = int64_t{1} << 40;
  training_steps(ranks, o, o.batch, "weak", o.bucket_bytes, "many");
  if (several) {
    training_steps(ranks, o, o.batch, "weak", kOneBucket, "one");
    training_steps(ranks, o, std::max<int64_t>(1, o.batch / ranks.size()), "strong", o.bucket_bytes,
                   "many");
  }
  return 0;
}

}  // namespace
}  // namespace stemfabric

int main(int argc, char** argv) {
  int status = 1;
  try {
    status = stemfabric::run(stemfabric::parse(argc, argv));
  } catch (const std::exception& error) {
    fmt::print(stderr, "ranks_bench: {}\n", error.what());
  }
  stemfabric::leave_ranks(status, status == 0);
  return status;
}
