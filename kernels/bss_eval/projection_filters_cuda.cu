// One system of all references and one for each scored source. Which share of the mean diagonal
// each needs on its diagonal only the factorisation tells, so the host waits for it.
#include <algorithm>
#include <limits>

#include "kernels/bss_eval/block_toeplitz_cuda.cuh"
#include "kernels/bss_eval/diagonal_load.h"
#include "runtime/memory/buffer.h"

namespace stemfabric::cuda {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

// Spectra [estimates, p, kBssBins] of the solutions.
__global__ void __launch_bounds__(kBssFftThreads)
    bss_filter_spectra_kernel(BssSystems s, const BssComplex* roots, BssComplex* spectra) {
  auto& shared = shared_storage<BssFftStorage>();
  const auto k = static_cast<int>(blockIdx.x);
  const auto estimate = static_cast<int>(blockIdx.y);
  const bool failed = s.failed[estimate / s.columns] != 0;
  const double* x = s.x + estimate * s.n() + k;
  const auto tap = [&](int t) {
    return t >= s.m ? 0.0 : failed ? kUndefined : x[int64_t{t} * s.p] / kBssFft;
  };
  bss_forward(shared.points, roots, tap, spectra + (int64_t{estimate} * s.p + k) * kBssBins);
}

// Factorises with the smallest load for which each system is positive definite; `failed` where
// there is none.
void factorise(const ExecutionContext& ctx, const BssSystems& systems) {
  const auto count = static_cast<std::size_t>(systems.count);
  const Buffer memory(ctx.staging(), count * (sizeof(double) + sizeof(int)), "bss_eval: loads");
  auto* loads = static_cast<double*>(memory.data());
  auto* failed = reinterpret_cast<int*>(loads + count);
  std::fill_n(loads, count, 0.0);
  for (bool pending = true; pending;) {
    ctx.stream().copy(systems.load, loads, count * sizeof(double));
    bss_factorise(ctx, systems);
    ctx.stream().copy(failed, systems.failed, count * sizeof(int));
    ctx.stream().synchronize();
    pending = false;
    for (std::size_t s = 0; s < count; ++s) {
      const double next = next_bss_load(loads[s]);
      const bool again = loads[s] >= 0 && failed[s] != 0 && next < kHopelessBssLoad;
      loads[s] = again ? next : -1;
      pending = pending || again;
    }
  }
}

void solve(const ExecutionContext& ctx, const BssSystems& systems, const BssComplex* roots,
           BssComplex* spectra) {
  factorise(ctx, systems);
  bss_solve(ctx, systems);
  launch(ctx,
         {.kernel = "bss_filter_spectra_kernel",
          .grid = {grid_size(systems.p), grid_size(int64_t{systems.count} * systems.columns)},
          .block = kBssFftThreads},
         bss_filter_spectra_kernel, systems, roots, spectra);
}

}  // namespace

void bss_projection_filters(const ExecutionContext& ctx, const BssSignals& signals,
                            const BssComplex* roots, const BssFilters& out) {
  WorkspaceScope scope(ctx.workspace());
  const BssCorrelations correlations = {
      scope.take<double>(int64_t{signals.p} * signals.p * signals.taps),
      scope.take<double>(int64_t{signals.p} * signals.q * signals.taps)};
  bss_correlate(ctx, signals, roots, correlations);
  const auto run = [&](BssSystems systems, BssComplex* spectra) {
    WorkspaceScope memory(ctx.workspace());
    systems.m = signals.taps;
    systems.references = signals.p;
    systems.estimates = signals.q;
    systems.correlations = correlations;
    bss_take_memory(memory, systems);
    solve(ctx, systems, roots, spectra);
  };
  run({.count = 1, .p = signals.p, .columns = signals.q}, out.all);
  BssSystems own = {.count = signals.scored(), .p = signals.channels, .columns = signals.channels};
  std::copy_n(signals.own, own.count, own.first);
  run(own, out.own);
}

}  // namespace stemfabric::cuda
