#include "kernels/bss_eval/projection_filters_cpu.h"

#include <algorithm>
#include <limits>

#include "kernels/bss_eval/block_toeplitz_cpu.h"
#include "kernels/bss_eval/correlation_cpu.h"
#include "kernels/bss_eval/diagonal_load.h"
#include "kernels/bss_eval/spectrum_cpu.h"
#include "kernels/common/parallel_for.h"

namespace stemfabric::cpu {
namespace {

constexpr int64_t kColumnsOfATask = 4;

template <typename Body>
void run(ThreadPool* threads, int64_t tasks, const Body& body) {
  if (threads != nullptr) {
    threads->run(tasks, body);
    return;
  }
  for (int64_t task = 0; task < tasks; ++task) {
    body(task);
  }
}

// Least squares: estimates [first_estimate, first_estimate + columns) by filters of references
// [first, first + p).
struct Problem {
  int64_t first, p;
  int64_t first_estimate, columns;
  double* spectra;  // [columns, p, kSpectrumSize]
};

// The scratch memory of a problem: pivots and FFT for each task that may run at the same time.
class Solver {
 public:
  static int64_t scratch_size(int64_t p, int64_t taps, int64_t columns) {
    return p * p * taps + BlockToeplitz::factor_size(p, taps) +
           BlockToeplitz::scratch_size(p, taps) + columns * p * taps + columns * p +
           columns * (kFftScratch + taps);
  }

  Solver(const BssSignals& signals, const BssCorrelations& correlations, const Problem& problem,
         double* scratch)
      : correlations_(correlations),
        problem_(problem),
        references_(static_cast<int64_t>(signals.references.size())),
        estimates_(static_cast<int64_t>(signals.estimates.size())),
        taps_(signals.taps),
        blocks_(scratch),
        factor_(blocks_ + problem.p * problem.p * taps_),
        work_(factor_ + BlockToeplitz::factor_size(problem.p, taps_)),
        filters_(work_ + BlockToeplitz::scratch_size(problem.p, taps_)),
        pivots_(filters_ + problem.columns * problem.p * taps_),
        fft_(pivots_ + problem.columns * problem.p) {}

  void solve(ThreadPool* threads) {
    gather();
    BlockToeplitz matrix(problem_.p, taps_, factor_, work_);
    const int64_t n = problem_.p * taps_;
    if (!factorise(matrix, threads)) {
      std::fill_n(problem_.spectra, problem_.columns * problem_.p * kSpectrumSize,
                  std::numeric_limits<double>::quiet_NaN());
      return;
    }
    const int64_t tasks = (problem_.columns + kColumnsOfATask - 1) / kColumnsOfATask;
    run(threads, tasks, [&](int64_t task) {
      const int64_t column = task * kColumnsOfATask;
      matrix.solve(filters_ + column * n, std::min(kColumnsOfATask, problem_.columns - column), n,
                   pivots_ + column * problem_.p);
    });
    run(threads, problem_.columns, [&](int64_t column) { transform(column); });
  }

 private:
  // Blocks of the matrix, and right-hand sides with element (τ, k) at τ·p + k.
  void gather() {
    const int64_t p = problem_.p;
    for (int64_t k = 0; k < p; ++k) {
      const int64_t row = problem_.first + k;
      for (int64_t k2 = 0; k2 < p; ++k2) {
        std::copy_n(correlations_.gram + (row * references_ + problem_.first + k2) * taps_, taps_,
                    blocks_ + (k * p + k2) * taps_);
      }
      for (int64_t d = 0; d < problem_.columns; ++d) {
        const double* cross =
            correlations_.cross + (row * estimates_ + problem_.first_estimate + d) * taps_;
        for (int64_t lag = 0; lag < taps_; ++lag) {
          filters_[(d * taps_ + lag) * p + k] = cross[lag];
        }
      }
    }
  }

  // Values that are not finite never succeed.
  bool factorise(BlockToeplitz& matrix, ThreadPool* threads) const {
    double mean = 0;
    for (int64_t k = 0; k < problem_.p; ++k) {
      mean += blocks_[(k * problem_.p + k) * taps_] / static_cast<double>(problem_.p);
    }
    for (double load = 0; load < kHopelessBssLoad; load = next_bss_load(load)) {
      if (matrix.factorise(blocks_, load == 0 ? 0 : load * mean, threads)) {
        return true;
      }
    }
    return false;
  }

  void transform(int64_t column) const {
    double* scratch = fft_ + column * (kFftScratch + taps_);
    double* filter = scratch + kFftScratch;
    for (int64_t k = 0; k < problem_.p; ++k) {
      for (int64_t lag = 0; lag < taps_; ++lag) {
        filter[lag] = filters_[(column * taps_ + lag) * problem_.p + k] / kFftSize;
      }
      forward_fft(filter, taps_, problem_.spectra + (column * problem_.p + k) * kSpectrumSize,
                  scratch);
    }
  }

  const BssCorrelations& correlations_;
  const Problem& problem_;
  int64_t references_, estimates_, taps_;
  double *blocks_, *factor_, *work_;
  double* filters_;
  double *pivots_, *fft_;
};

}  // namespace

void bss_projection_filters(const ExecutionContext& ctx, const BssSignals& signals,
                            const BssFilters& out) {
  const auto p = static_cast<int64_t>(signals.references.size());
  const auto q = static_cast<int64_t>(signals.estimates.size());
  const int64_t channels = signals.channels;
  const auto sources = static_cast<int64_t>(signals.own.size());
  WorkspaceScope scope(ctx.workspace());
  const BssCorrelations correlations = {scope.take<double>(p * p * signals.taps),
                                        scope.take<double>(p * q * signals.taps)};
  bss_correlate(ctx, signals, correlations);
  {
    WorkspaceScope scratch(ctx.workspace());
    const Problem all = {0, p, 0, q, out.all};
    Solver(signals, correlations, all,
           scratch.take<double>(Solver::scratch_size(p, signals.taps, q)))
        .solve(&ctx.threads());
  }
  const int64_t size = Solver::scratch_size(channels, signals.taps, channels);
  auto* scratch = scope.take<double>(scratch_slots(ctx, sources) * size);
  parallel_tasks(ctx, sources, [&](int64_t j, int64_t slot) {
    const Problem own = {signals.own[static_cast<std::size_t>(j)], channels, j * channels, channels,
                         out.own + j * channels * channels * kSpectrumSize};
    Solver(signals, correlations, own, scratch + slot * size).solve(nullptr);
  });
}

}  // namespace stemfabric::cpu
