// The program kernel_benchmarks: see benchmarks/README.md.
#include "benchmarks/support/kernel_benchmark.h"

#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <limits>
#include <string_view>
#include <vector>

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

// Rates come from the median call, so that a busy neighbour spoils little. Each case has a context
// of its own, so that its scratch memory can be told.
void time_kernel(benchmark::State& state, const KernelCase& kernel_case, int threads,
                 const MachinePeak& peak) {
  const ExecutionContext ctx({.threads = threads});
  const std::function<void()> run = kernel_case.prepare(ctx);
  run();
  std::vector<double> seconds;
  double best_cpu_seconds = std::numeric_limits<double>::infinity();
  for (auto _ : state) {
    const double cpu_start = thread_cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    run();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    best_cpu_seconds = std::min(best_cpu_seconds, thread_cpu_seconds() - cpu_start);
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  state.counters["median_us"] = *middle * 1e6;
  state.counters["best_us"] = *std::min_element(seconds.begin(), seconds.end()) * 1e6;
  if (threads == 1) {
    state.counters["best_cpu_us"] = best_cpu_seconds * 1e6;
  }
  if (kernel_case.flops > 0) {
    state.counters["GFLOP/s"] = kernel_case.flops / *middle * 1e-9;
    state.counters["%peak"] = 100 * kernel_case.flops / *middle / peak.flops_per_second;
  }
  state.counters["scratch_MB"] = static_cast<double>(ctx.workspace().capacity()) * 1e-6;
  if (kernel_case.bytes > 0) {
    state.counters["GB/s"] = kernel_case.bytes / *middle * 1e-9;
    state.counters["%copy"] = 100 * kernel_case.bytes / *middle / peak.bytes_per_second;
  }
}

// Takes "--threads=N" out of the arguments; 0 (all cores) if it is not there.
int take_threads(int& argc, char** argv) {
  constexpr std::string_view kName = "--threads=";
  int threads = 0;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.substr(0, kName.size()) != kName) {
      argv[kept++] = argv[i];
      continue;
    }
    threads = std::atoi(argument.substr(kName.size()).data());
    if (threads < 1 || threads > 1024) {
      throw UsageError("{}: give a number of threads from 1 to 1024.", argument);
    }
  }
  argc = kept;
  return threads;
}

int run(int argc, char** argv) {
  const ExecutionContext ctx({.threads = take_threads(argc, argv)});
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 2;
  }
  const MachinePeak peak = measure_machine_peak(ctx);
  const int threads = ctx.threads().threads();
  const std::string blas = use_openblas_threads(threads);
  benchmark::AddCustomContext("threads", std::to_string(threads));
  benchmark::AddCustomContext("simd", peak.simd);
  benchmark::AddCustomContext(
      "peak",
      fmt::format("{:.1f} GFLOP/s (one core's multiply-adds x {} threads), copy {:.1f} GB/s",
                  peak.flops_per_second * 1e-9, threads, peak.bytes_per_second * 1e-9));
  benchmark::AddCustomContext("peer", blas);
  for (const KernelCase& kernel_case : kernel_cases()) {
    benchmark::RegisterBenchmark(
        kernel_case.name.c_str(),
        [&](benchmark::State& state) { time_kernel(state, kernel_case, threads, peak); })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace

bool register_kernel(KernelCase kernel_case) {
  kernel_cases().push_back(std::move(kernel_case));
  return true;
}

void require_within_bound(const std::string& what, std::span<const double> result,
                          std::span<const double> naive, std::span<const double> oracle) {
  const double share = test::share_of_bound(result, naive, oracle);
  if (!(share <= 1.0)) {
    throw InternalError("{}: wrong result, {:.2f} times the error allowed; not timed.", what,
                        share);
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
