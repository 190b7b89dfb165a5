#include "kernels/bss_eval/correlation_cpu.h"

#include <algorithm>

#include "kernels/bss_eval/spectrum_cpu.h"
#include "kernels/common/parallel_for.h"

namespace stemfabric::cpu {
namespace {

constexpr int64_t kBlocksAtOnce = 8;  // spectra of as many blocks of every signal are in memory
constexpr int64_t kBinsOfATask = 128;

// p "short" blocks of references, and q "long" ones of references and then estimates.
class Correlator {
 public:
  Correlator(const ExecutionContext& ctx, WorkspaceScope& scope, const BssSignals& signals)
      : ctx_(ctx),
        signals_(signals),
        p_(static_cast<int64_t>(signals.references.size())),
        q_(p_ + static_cast<int64_t>(signals.estimates.size())),
        step_(kFftSize - signals.taps + 1),
        blocks_((signals.length + step_ - 1) / step_),
        short_spectra_(scope.take<double>(p_ * kBlocksAtOnce * kSpectrumSize)),
        long_spectra_(scope.take<double>(q_ * kBlocksAtOnce * kSpectrumSize)),
        sums_(scope.take<double>(p_ * q_ * kSpectrumSize)),
        scratch_(scope.take<double>(ctx.threads().threads() * (kFftScratch + kFftSize))) {}

  void run(const BssCorrelations& out) {
    for (int64_t first = 0; first < blocks_; first += kBlocksAtOnce) {
      const int64_t count = std::min(kBlocksAtOnce, blocks_ - first);
      parallel_tasks(ctx_, (p_ + q_) * count, [&](int64_t task, int64_t slot) {
        transform(task / count, first + task % count, task % count, fft_scratch(slot));
      });
      parallel_for(ctx_, kBinStride, kBinsOfATask, [&](int64_t begin, int64_t end, int64_t) {
        multiply_spectra({.rows = p_,
                          .columns = q_,
                          .terms = count,
                          .a = short_spectra_,
                          .a_row = kBlocksAtOnce * kSpectrumSize,
                          .a_term = kSpectrumSize,
                          .b = long_spectra_,
                          .b_term = kSpectrumSize,
                          .b_column = kBlocksAtOnce * kSpectrumSize,
                          .out = sums_,
                          .out_row = q_ * kSpectrumSize,
                          .out_column = kSpectrumSize,
                          .conjugate = true,
                          .accumulate = first > 0,
                          .first_bin = begin,
                          .last_bin = end});
      });
    }
    parallel_tasks(ctx_, p_ * q_, [&](int64_t task, int64_t slot) { finish(task, slot, out); });
  }

 private:
  double* fft_scratch(int64_t slot) const { return scratch_ + slot * (kFftScratch + kFftSize); }

  // Spectrum number `place` of what is kept of signal `task`: of the p short ones, then the q long.
  void transform(int64_t task, int64_t block, int64_t place, double* scratch) const {
    const int64_t start = block * step_;
    const bool is_short = task < p_;
    const int64_t index = is_short ? task : task - p_;
    const auto i = static_cast<std::size_t>(index < p_ ? index : index - p_);
    const float* x = index < p_ ? signals_.references[i] : signals_.estimates[i];
    double* spectra = is_short ? short_spectra_ : long_spectra_;
    forward_fft(x + start, std::min(is_short ? step_ : kFftSize, signals_.length - start),
                spectra + (index * kBlocksAtOnce + place) * kSpectrumSize, scratch);
  }

  void finish(int64_t task, int64_t slot, const BssCorrelations& out) const {
    double* x = fft_scratch(slot) + kFftScratch;
    inverse_fft(sums_ + task * kSpectrumSize, x, fft_scratch(slot));
    const int64_t row = task / q_;
    const int64_t column = task % q_;
    double* to = column < p_ ? out.gram + (row * p_ + column) * signals_.taps
                             : out.cross + (row * (q_ - p_) + column - p_) * signals_.taps;
    for (int64_t lag = 0; lag < signals_.taps; ++lag) {
      to[lag] = x[lag] / kFftSize;
    }
  }

  const ExecutionContext& ctx_;
  const BssSignals& signals_;
  int64_t p_, q_;
  int64_t step_, blocks_;
  double *short_spectra_, *long_spectra_, *sums_, *scratch_;
};

}  // namespace

void bss_correlate(const ExecutionContext& ctx, const BssSignals& signals,
                   const BssCorrelations& out) {
  WorkspaceScope scope(ctx.workspace());
  Correlator(ctx, scope, signals).run(out);
}

}  // namespace stemfabric::cpu
