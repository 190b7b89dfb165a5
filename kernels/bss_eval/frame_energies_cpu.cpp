// Overlap-save: a block of taps−1 earlier and as many new samples as still fit gives the outputs of
// the new ones, so no block needs another. Blocks are grouped into tasks, whose sums are added in
// order.
#include "kernels/bss_eval/frame_energies_cpu.h"

#include <algorithm>

#include "kernels/bss_eval/spectrum_cpu.h"
#include "kernels/common/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bss_eval/frame_energies_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/common/simd-inl.h"

#ifndef SF_KERNELS_BSS_EVAL_OUTPUTS
#define SF_KERNELS_BSS_EVAL_OUTPUTS
namespace stemfabric::cpu {

struct BssOutputs {
  const float *s, *y;   // null: zeros
  const double *q, *p;  // projections
  int64_t n;
};

}  // namespace stemfabric::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

// Adds the squares of n outputs.
void bss_add_energies(const cpu::BssOutputs& x, cpu::BssEnergies& sum) {
  const DoubleTag d;
  const hn::CappedTag<double, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t begin = 0;
  const auto add = [&](auto tag, int64_t end) HWY_ATTR {
    const hn::Rebind<float, decltype(tag)> narrow;
    const auto load = [&](const float* v, int64_t i) HWY_ATTR {
      return v == nullptr ? hn::Zero(tag) : hn::PromoteTo(tag, hn::LoadU(narrow, v + i));
    };
    const auto square = [](auto v, auto& to) HWY_ATTR { to = hn::MulAdd(v, v, to); };
    auto target = hn::Zero(tag);
    auto error = target;
    auto spatial = target;
    auto own = target;
    auto interference = target;
    auto all = target;
    auto artefacts = target;
    auto own_error = target;
    for (const auto step = static_cast<int64_t>(hn::Lanes(tag)); begin + step <= end;
         begin += step) {
      const auto s = load(x.s, begin);
      const auto y = load(x.y, begin);
      const auto q = hn::LoadU(tag, x.q + begin);
      const auto p = hn::LoadU(tag, x.p + begin);
      square(s, target);
      square(hn::Sub(y, s), error);
      square(hn::Sub(q, s), spatial);
      square(q, own);
      square(hn::Sub(p, q), interference);
      square(p, all);
      square(hn::Sub(y, p), artefacts);
      square(hn::Sub(y, q), own_error);
    }
    const auto total = [&](auto v) HWY_ATTR { return hn::GetLane(hn::SumOfLanes(tag, v)); };
    sum.target += total(target);
    sum.error += total(error);
    sum.spatial += total(spatial);
    sum.own += total(own);
    sum.interference += total(interference);
    sum.all += total(all);
    sum.artefacts += total(artefacts);
    sum.own_error += total(own_error);
  };
  add(d, x.n / lanes * lanes);
  add(d1, x.n);
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(bss_add_energies);
}  // namespace stemfabric

namespace stemfabric::cpu {
namespace {

constexpr int64_t kBlocksOfATask = 4;

class FrameEnergies {
 public:
  FrameEnergies(const BssSignals& signals, const BssFilters& filters,
                std::span<const BssFrame> frames, int64_t* first_tasks)
      : signals_(signals),
        filters_(filters),
        frames_(frames),
        p_(static_cast<int64_t>(signals.references.size())),
        sources_(static_cast<int64_t>(signals.own.size())),
        step_(kFftSize - signals.taps + 1),
        first_tasks_(first_tasks) {
    first_tasks_[0] = 0;
    for (std::size_t f = 0; f < frames.size(); ++f) {
      const int64_t blocks = (outputs_end(frames[f]) - frames[f].begin + step_ - 1) / step_;
      first_tasks_[f + 1] = first_tasks_[f] + (blocks + kBlocksOfATask - 1) / kBlocksOfATask;
    }
  }

  int64_t first_task(std::size_t frame) const { return first_tasks_[frame]; }
  int64_t tasks() const { return first_tasks_[frames_.size()]; }
  // Doubles that a task needs.
  int64_t scratch_size() const {
    return (p_ + 2 * signals_.channels) * kBlocksOfATask * kSpectrumSize + kFftScratch +
           2 * kFftSize;
  }

  // out: [scored sources]
  void run(int64_t task, double* scratch, BssEnergies* out) const {
    const auto* next = std::upper_bound(first_tasks_, first_tasks_ + frames_.size(), task);
    const auto f = static_cast<std::size_t>(next - first_tasks_ - 1);
    const BssFrame& frame = frames_[f];
    const int64_t begin = frame.begin + (task - first_tasks_[f]) * kBlocksOfATask * step_;
    const int64_t blocks =
        std::min(kBlocksOfATask, (outputs_end(frame) - begin + step_ - 1) / step_);
    const Memory memory(*this, scratch);
    for (int64_t k = 0; k < p_; ++k) {
      for (int64_t b = 0; b < blocks; ++b) {
        transform(signals_.references[static_cast<std::size_t>(k)], frame, begin + b * step_,
                  memory.references + (k * kBlocksOfATask + b) * kSpectrumSize, memory);
      }
    }
    for (int64_t j = 0; j < sources_; ++j) {
      out[j] = source_energies(j, frame, begin, blocks, memory);
    }
  }

 private:
  struct Memory {
    Memory(const FrameEnergies& e, double* scratch)
        : references(scratch),
          all(references + e.p_ * kBlocksOfATask * kSpectrumSize),
          own(all + e.signals_.channels * kBlocksOfATask * kSpectrumSize),
          fft(own + e.signals_.channels * kBlocksOfATask * kSpectrumSize),
          p(fft + kFftScratch),
          q(p + kFftSize) {}
    double* references;  // [p, kBlocksOfATask, kSpectrumSize]
    double *all, *own;   // [C, kBlocksOfATask, kSpectrumSize]
    double* fft;
    double *p, *q;  // outputs of a block; before that, p holds its samples
  };

  int64_t outputs_end(const BssFrame& frame) const { return frame.end + signals_.taps - 1; }

  // The spectrum of the block whose new samples start at `start`; what is outside the frame is 0.
  void transform(const float* x, const BssFrame& frame, int64_t start, double* spectrum,
                 const Memory& memory) const {
    const int64_t from = start - (signals_.taps - 1);
    const int64_t first = std::max(from, frame.begin);
    const int64_t last = std::min(from + kFftSize, frame.end);
    if (first == from) {
      forward_fft(x + first, std::max<int64_t>(0, last - first), spectrum, memory.fft);
      return;
    }
    std::fill_n(memory.p, first - from, 0.0);
    std::copy(x + first, x + last, memory.p + (first - from));
    forward_fft(memory.p, last - from, spectrum, memory.fft);
  }

  BssEnergies source_energies(int64_t j, const BssFrame& frame, int64_t begin, int64_t blocks,
                              const Memory& memory) const {
    const int64_t channels = signals_.channels;
    project(filters_.all + j * channels * p_ * kSpectrumSize, memory.references, p_, blocks,
            memory.all);
    project(filters_.own + j * channels * channels * kSpectrumSize,
            memory.references + own(j) * kBlocksOfATask * kSpectrumSize, channels, blocks,
            memory.own);
    BssEnergies sum;
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t place = (c * kBlocksOfATask + b) * kSpectrumSize;
        inverse_fft(memory.all + place, memory.p, memory.fft);
        inverse_fft(memory.own + place, memory.q, memory.fft);
        add_block(j, c, frame, begin + b * step_, memory, sum);
      }
    }
    return sum;
  }

  // Spectra of C channels of a projection from those of `terms` references.
  void project(const double* filters, const double* references, int64_t terms, int64_t blocks,
               double* out) const {
    multiply_spectra({.rows = signals_.channels,
                      .columns = blocks,
                      .terms = terms,
                      .a = filters,
                      .a_row = terms * kSpectrumSize,
                      .a_term = kSpectrumSize,
                      .b = references,
                      .b_term = kBlocksOfATask * kSpectrumSize,
                      .b_column = kSpectrumSize,
                      .out = out,
                      .out_row = kBlocksOfATask * kSpectrumSize,
                      .out_column = kSpectrumSize});
  }

  void add_block(int64_t j, int64_t channel, const BssFrame& frame, int64_t start,
                 const Memory& memory, BssEnergies& sum) const {
    const int64_t outputs = std::min(step_, outputs_end(frame) - start);
    const int64_t samples = std::clamp<int64_t>(frame.end - start, 0, outputs);
    const double* p = memory.p + signals_.taps - 1;
    const double* q = memory.q + signals_.taps - 1;
    const float* s = signals_.references[static_cast<std::size_t>(own(j) + channel)];
    const float* y = signals_.estimates[static_cast<std::size_t>(j * signals_.channels + channel)];
    const int64_t at = std::min(start, frame.end);  // in the tail there is no sample
    HWY_DYNAMIC_DISPATCH(bss_add_energies)({s + at, y + at, q, p, samples}, sum);
    HWY_DYNAMIC_DISPATCH(bss_add_energies)
    ({nullptr, nullptr, q + samples, p + samples, outputs - samples}, sum);
  }

  int64_t own(int64_t j) const { return signals_.own[static_cast<std::size_t>(j)]; }

  const BssSignals& signals_;
  const BssFilters& filters_;
  std::span<const BssFrame> frames_;
  int64_t p_, sources_;
  int64_t step_;
  int64_t* first_tasks_;  // [frames + 1]
};

void add(const BssEnergies& part, BssEnergies& sum) {
  sum.target += part.target;
  sum.error += part.error;
  sum.spatial += part.spatial;
  sum.own += part.own;
  sum.interference += part.interference;
  sum.all += part.all;
  sum.artefacts += part.artefacts;
  sum.own_error += part.own_error;
}

}  // namespace

void bss_frame_energies(const ExecutionContext& ctx, const BssSignals& signals,
                        const BssFilters& filters, std::span<const BssFrame> frames,
                        BssEnergies* out) {
  WorkspaceScope scope(ctx.workspace());
  const FrameEnergies energies(signals, filters, frames,
                               scope.take<int64_t>(static_cast<int64_t>(frames.size()) + 1));
  const auto sources = static_cast<int64_t>(signals.own.size());
  auto* parts = scope.take<BssEnergies>(energies.tasks() * sources);
  const int64_t size = energies.scratch_size();
  auto* scratch = scope.take<double>(scratch_slots(ctx, energies.tasks()) * size);
  parallel_tasks(ctx, energies.tasks(), [&](int64_t task, int64_t slot) {
    energies.run(task, scratch + slot * size, parts + task * sources);
  });
  for (std::size_t f = 0; f < frames.size(); ++f) {
    for (int64_t j = 0; j < sources; ++j) {
      BssEnergies& sum = out[static_cast<int64_t>(f) * sources + j];
      sum = {};
      for (int64_t task = energies.first_task(f); task < energies.first_task(f + 1); ++task) {
        add(parts[task * sources + j], sum);
      }
    }
  }
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
