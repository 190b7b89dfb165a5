// The program kernel_benchmarks: see benchmarks/README.md.
#include "benchmarks/support/kernel_benchmark.h"

#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <limits>
#include <set>
#include <string_view>
#include <vector>

#include "benchmarks/support/cold_timer.h"
#include "benchmarks/support/machine_peak.h"
#include "benchmarks/support/peer_openblas.h"
#include "tests/support/tolerance.h"

namespace stemfabric::benchmarks {
namespace {

std::vector<KernelCase>& kernel_cases() {
  static std::vector<KernelCase> cases;
  return cases;
}

// Processor time of the calling thread: what a busy machine takes away does not count.
double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Options {
  int threads = 0;    // 0: all cores
  bool cuda = false;  // run on the first GPU
  bool cold = false;  // ColdTimer; always on a GPU
  int repeats = 50;   // timed calls of a case, if cold
};
// Cold calls of a case end after so long, if there were a few.
constexpr double kMostSeconds = 10;
constexpr std::size_t kFewestCalls = 3;

ExecutionContext::Options context_options(const Options& options) {
  return {.device = {options.cuda ? DeviceKind::kCuda : DeviceKind::kCpu, 0},
          .threads = options.threads};
}

bool is_selected(const KernelCase& kernel_case, const Options& options) {
  return kernel_case.on == RunsOn::kAny || (kernel_case.on == RunsOn::kGpu) == options.cuda;
}

struct Times {
  std::vector<double> seconds;  // of each call
  double best_cpu_seconds = std::numeric_limits<double>::infinity();
};

Times time_warm(benchmark::State& state, const std::function<void()>& run) {
  Times times;
  for (auto _ : state) {
    const double cpu_start = thread_cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    run();
    times.seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    state.SetIterationTime(times.seconds.back());
    times.best_cpu_seconds = std::min(times.best_cpu_seconds, thread_cpu_seconds() - cpu_start);
  }
  return times;
}

// Google Benchmark wants as many iterations as were announced: those of calls that are left out
// repeat the last one's time.
Times time_cold(benchmark::State& state, const ExecutionContext& ctx,
                const std::function<void()>& run) {
  ColdTimer timer(ctx);
  Times times;
  const auto start = std::chrono::steady_clock::now();
  const auto in_time = [&] {
    return times.seconds.size() < kFewestCalls ||
           std::chrono::steady_clock::now() - start < std::chrono::duration<double>(kMostSeconds);
  };
  for (auto _ : state) {
    if (in_time()) {
      times.seconds.push_back(timer.seconds_of(run));
    }
    state.SetIterationTime(times.seconds.back());
  }
  return times;
}

// Rates come from the median call, so that a busy neighbour spoils little. Each case has a context
// of its own, so that its scratch memory can be told. False if the case failed.
bool time_kernel(benchmark::State& state, const KernelCase& kernel_case, const Options& options,
                 const MachinePeak& peak) {
  const ExecutionContext ctx(context_options(options));
  Times times;
  try {
    const std::function<void()> run = kernel_case.prepare(ctx);
    run();
    times = options.cold ? time_cold(state, ctx, run) : time_warm(state, run);
  } catch (const Error& error) {
    state.SkipWithError(error.what());
    return false;
  }
  std::sort(times.seconds.begin(), times.seconds.end());
  const double median = times.seconds[times.seconds.size() / 2];
  state.counters["median_us"] = median * 1e6;
  state.counters["best_us"] = times.seconds.front() * 1e6;
  if (options.threads == 1 && !options.cold) {
    state.counters["best_cpu_us"] = times.best_cpu_seconds * 1e6;
  }
  if (kernel_case.flops > 0 && options.cuda) {
    state.counters["TFLOP/s"] = kernel_case.flops / median * 1e-12;
  } else if (kernel_case.flops > 0) {
    state.counters["GFLOP/s"] = kernel_case.flops / median * 1e-9;
    state.counters["%peak"] = 100 * kernel_case.flops / median / peak.flops_per_second;
  }
  state.counters["scratch_MB"] = static_cast<double>(ctx.workspace().capacity()) * 1e-6;
  if (kernel_case.bytes > 0) {
    state.counters["GB/s"] = kernel_case.bytes / median * 1e-9;
    state.counters["%copy"] = 100 * kernel_case.bytes / median / peak.bytes_per_second;
  }
  if (options.cold) {
    state.counters["calls"] = static_cast<double>(times.seconds.size());
    const double floor =
        peak.floor_seconds(kernel_case.factors, kernel_case.flops, kernel_case.bytes);
    state.counters["floor_us"] = floor * 1e6;
    state.counters["%floor"] = 100 * floor / median;
  }
  return true;
}

int number_of(std::string_view argument, std::string_view value, int most) {
  int number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 1 || number > most) {
    throw UsageError("{}: give a number from 1 to {}.", argument, most);
  }
  return number;
}

// Takes our options out of the arguments; what is left is Google Benchmark's.
Options take_options(std::vector<char*>& arguments) {
  Options options;
  const auto take = [&](std::string_view argument) {
    const auto value_of = [&](std::string_view name) { return argument.substr(name.size()); };
    if (argument.starts_with("--threads=")) {
      options.threads = number_of(argument, value_of("--threads="), 1024);
    } else if (argument.starts_with("--repeats=")) {
      options.repeats = number_of(argument, value_of("--repeats="), 1000000);
    } else if (argument == "--device=cpu" || argument == "--device=cuda") {
      options.cuda = argument == "--device=cuda";
    } else if (argument.starts_with("--device")) {
      throw UsageError("{}: give --device=cpu or --device=cuda.", argument);
    } else if (argument == "--cold") {
      options.cold = true;
    } else {
      return false;
    }
    return true;
  };
  std::erase_if(arguments, [&](const char* argument) { return take(argument); });
  options.cold = options.cold || options.cuda;
  return options;
}

// `failed` becomes true if the case does.
void register_benchmark(const KernelCase& kernel_case, const Options& options,
                        const MachinePeak& peak, bool& failed) {
  auto* benchmark =
      benchmark::RegisterBenchmark(kernel_case.name.c_str(), [&](benchmark::State& state) {
        failed = !time_kernel(state, kernel_case, options, peak) || failed;
      });
  benchmark->UseManualTime()->Unit(benchmark::kMicrosecond);
  if (options.cold) {
    benchmark->Iterations(options.repeats);
  }
}

void describe_run(const Options& options, const ExecutionContext& ctx, const MachinePeak& peak) {
  const int threads = ctx.threads().threads();
  for (const DeviceInfo& info : list_devices()) {
    if (info.device == ctx.device()) {
      benchmark::AddCustomContext("device", info.name);
    }
  }
  benchmark::AddCustomContext("threads", std::to_string(threads));
  benchmark::AddCustomContext(
      "peak", fmt::format("{:.1f} GFLOP/s ({}), copy {:.1f} GB/s", peak.flops_per_second * 1e-9,
                          peak.what, peak.bytes_per_second * 1e-9));
  benchmark::AddCustomContext("copy_GB_per_s", fmt::format("{:.1f}", peak.bytes_per_second * 1e-9));
  benchmark::AddCustomContext("peak_GFLOP_per_s",
                              fmt::format("{:.1f}", peak.flops_per_second * 1e-9));
  if (peak.bf16_flops_per_second > 0) {
    benchmark::AddCustomContext(
        "peak_bf16",
        fmt::format("{:.1f} GFLOP/s ({})", peak.bf16_flops_per_second * 1e-9, peak.what_bf16));
    benchmark::AddCustomContext("peak_bf16_GFLOP_per_s",
                                fmt::format("{:.1f}", peak.bf16_flops_per_second * 1e-9));
  }
  if (!options.cuda) {
    benchmark::AddCustomContext("peer", use_openblas_threads(threads));
  }
}

int run(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  const Options options = take_options(arguments);
  const std::string no_gpu = options.cuda ? cuda_unavailable_reason() : "";
  std::string list_only = "--benchmark_list_tests=true";
  if (!no_gpu.empty()) {
    fmt::print("There is no GPU here ({}). Nothing was measured; these cases would run:\n", no_gpu);
    std::fflush(stdout);
    arguments.push_back(list_only.data());
  }
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) {
    return 2;
  }
  MachinePeak peak;
  bool failed = false;
  if (no_gpu.empty()) {
    const ExecutionContext ctx(context_options(options));
    peak = measure_machine_peak(ctx);
    describe_run(options, ctx, peak);
  }
  for (const KernelCase& kernel_case : kernel_cases()) {
    if (is_selected(kernel_case, options)) {
      register_benchmark(kernel_case, options, peak, failed);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  if (!no_gpu.empty()) {
    return exit_status(ErrorKind::kDevice);
  }
  return failed ? exit_status(ErrorKind::kInternal) : 0;
}

}  // namespace

bool register_kernel(KernelCase kernel_case) {
  kernel_cases().push_back(std::move(kernel_case));
  return true;
}

std::string implementation_name(DType dtype) {
  return dtype == DType::kBF16 ? "/stemfabric_bf16" : "/stemfabric";
}

void require_within_bound(const std::string& what, std::span<const double> result,
                          std::span<const double> naive, std::span<const double> oracle,
                          test::Floor floor) {
  const double share = test::share_of_bound(result, naive, oracle, floor);
  if (!(share <= 1.0)) {
    throw InternalError("{}: wrong result, {:.2f} times the error allowed; not timed.", what,
                        share);
  }
}

void require_equal(const std::string& what, std::span<const double> result,
                   std::span<const double> expected) {
  require_within_bound(what, result, expected, expected, {.ulps = 0});
}

void verify_once(const std::string& name, const std::function<void()>& verify) {
  static std::set<std::string> verified;
  if (!verified.contains(name)) {
    verify();
    verified.insert(name);
  }
}

}  // namespace stemfabric::benchmarks

int main(int argc, char** argv) {
  try {
    return stemfabric::benchmarks::run(argc, argv);
  } catch (const stemfabric::Error& error) {
    fmt::print(stderr, "kernel_benchmarks: {}\n", error.what());
    return stemfabric::exit_status(error.kind());
  }
}
