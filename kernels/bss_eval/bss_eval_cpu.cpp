#include "kernels/bss_eval/bss_eval_cpu.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/bss_eval/frame_energies_cpu.h"
#include "kernels/bss_eval/projection_filters_cpu.h"
#include "kernels/bss_eval/spectrum_cpu.h"

namespace stemfabric::cpu {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

struct Signals {
  explicit Signals(const ConstTensorView& view)
      : data(view.as<float>()), strides(view.strides()), channels(view.dim(1)) {}
  const float* signal(int64_t source, int64_t channel) const {
    return data + source * strides[0] + channel * strides[1];
  }
  bool silent(int64_t source, const BssFrame& frame) const {
    for (int64_t t = frame.begin; t < frame.end; ++t) {
      double sum = 0;
      for (int64_t c = 0; c < channels; ++c) {
        sum += static_cast<double>(signal(source, c)[t]);
      }
      if (sum != 0) {
        return false;
      }
    }
    return true;
  }
  // No channel holds anything; a silent source may yet hold something.
  bool zero(int64_t source, int64_t length) const {
    for (int64_t c = 0; c < channels; ++c) {
      const float* x = signal(source, c);
      if (std::any_of(x, x + length, [](float v) { return v != 0; })) {
        return false;
      }
    }
    return true;
  }
  const float* data;
  ConstTensorView::Strides strides;
  int64_t channels;
};

double decibel(double numerator, double denominator) {
  return denominator == 0 ? std::numeric_limits<double>::infinity()
                          : 10 * std::log10(numerator / denominator);
}

// SDR, ISR, SIR, SAR, source SDR.
std::array<double, 5> measures(const BssEnergies& e) {
  return {decibel(e.target, e.error), decibel(e.target, e.spatial), decibel(e.own, e.interference),
          decibel(e.all, e.artefacts), decibel(e.own, e.own_error)};
}

class Evaluation {
 public:
  Evaluation(const ExecutionContext& ctx, WorkspaceScope& scope, const BssEvalArgs& args)
      : ctx_(ctx),
        args_(args),
        references_(args.references),
        estimates_(args.estimates),
        sources_(args.references.dim(0)),
        channels_(args.references.dim(1)),
        length_(args.references.dim(2)),
        silent_(scope.take<uint8_t>(2 * sources_)),
        scored_(scope.take<int64_t>(sources_)),
        own_(scope.take<int64_t>(sources_)),
        reference_signals_(scope.take<const float*>(sources_ * channels_)),
        estimate_signals_(scope.take<const float*>(sources_ * channels_)) {
    find_silence();
    choose_signals();
  }

  void write_silent() const {
    if (args_.silent) {
      std::copy_n(silent_, 2 * sources_, args_.silent.as<uint8_t>());
    }
  }

  void write_measures(WorkspaceScope& scope) const {
    const int64_t count = args_.frames ? args_.frames.dim(2) : 0;
    if (args_.frames) {
      std::fill_n(args_.frames.as<double>(), args_.frames.elements(), kUndefined);
    }
    if (args_.whole) {
      std::fill_n(args_.whole.as<double>(), args_.whole.elements(), kUndefined);
    }
    auto* frames = scope.take<BssFrame>(count + 1);
    auto* numbers = scope.take<int64_t>(count + 1);
    const int64_t chosen = choose_frames(count, frames, numbers);
    if (scored_count_ == 0 || chosen == 0) {
      return;
    }
    auto* energies = scope.take<BssEnergies>(chosen * scored_count_);
    measure({frames, static_cast<std::size_t>(chosen)}, energies);
    for (int64_t f = 0; f < chosen; ++f) {
      for (int64_t j = 0; j < scored_count_; ++j) {
        store(measures(energies[f * scored_count_ + j]), scored_[j], numbers[f], count);
      }
    }
  }

 private:
  static constexpr int64_t kWhole = -1;  // the number of the whole signal among the frames

  void find_silence() {
    const BssFrame whole = {0, length_};
    for (int64_t s = 0; s < sources_; ++s) {
      silent_[s] = references_.silent(s, whole) ? 1 : 0;
      silent_[sources_ + s] = estimates_.silent(s, whole) ? 1 : 0;
    }
  }

  void choose_signals() {
    for (int64_t s = 0; s < sources_; ++s) {
      if (references_.zero(s, length_)) {
        continue;
      }
      if (silent_[s] == 0 && silent_[sources_ + s] == 0) {
        own_[scored_count_] = reference_count_;
        for (int64_t c = 0; c < channels_; ++c) {
          estimate_signals_[scored_count_ * channels_ + c] = estimates_.signal(s, c);
        }
        scored_[scored_count_++] = s;
      }
      for (int64_t c = 0; c < channels_; ++c) {
        reference_signals_[reference_count_++] = references_.signal(s, c);
      }
    }
  }

  // The frames that have values, and last the whole signal if it is wanted.
  int64_t choose_frames(int64_t count, BssFrame* frames, int64_t* numbers) const {
    int64_t chosen = 0;
    for (int64_t f = 0; f < count; ++f) {
      const int64_t begin = f * args_.hop;
      const BssFrame frame = {begin, begin + std::min(args_.window, length_ - begin)};
      if (!any_silent(frame)) {
        numbers[chosen] = f;
        frames[chosen++] = frame;
      }
    }
    if (args_.whole) {
      numbers[chosen] = kWhole;
      frames[chosen++] = {0, length_};
    }
    return chosen;
  }

  bool any_silent(const BssFrame& frame) const {
    for (int64_t s = 0; s < sources_; ++s) {
      if ((silent_[s] == 0 && references_.silent(s, frame)) ||
          (silent_[sources_ + s] == 0 && estimates_.silent(s, frame))) {
        return true;
      }
    }
    return false;
  }

  void measure(std::span<const BssFrame> frames, BssEnergies* energies) const {
    const int64_t q = scored_count_ * channels_;
    const BssSignals signals = {
        .channels = channels_,
        .length = length_,
        .taps = args_.taps,
        .references = {reference_signals_, static_cast<std::size_t>(reference_count_)},
        .estimates = {estimate_signals_, static_cast<std::size_t>(q)},
        .own = {own_, static_cast<std::size_t>(scored_count_)}};
    WorkspaceScope scope(ctx_.workspace());
    const BssFilters filters = {scope.take<double>(q * reference_count_ * kSpectrumSize),
                                scope.take<double>(q * channels_ * kSpectrumSize)};
    bss_projection_filters(ctx_, signals, filters);
    bss_frame_energies(ctx_, signals, filters, frames, energies);
  }

  void store(const std::array<double, 5>& values, int64_t source, int64_t frame,
             int64_t frames) const {
    if (frame == kWhole) {
      for (int64_t m = 0; m < 5; ++m) {
        args_.whole.as<double>()[m * sources_ + source] = values[static_cast<std::size_t>(m)];
      }
      return;
    }
    for (int64_t m = 0; m < 4; ++m) {
      args_.frames.as<double>()[(m * sources_ + source) * frames + frame] =
          values[static_cast<std::size_t>(m)];
    }
  }

  const ExecutionContext& ctx_;
  const BssEvalArgs& args_;
  Signals references_, estimates_;
  int64_t sources_, channels_, length_;
  uint8_t* silent_;  // [2, S]
  int64_t* scored_;  // sources that get values
  int64_t* own_;
  const float** reference_signals_;
  const float** estimate_signals_;
  int64_t scored_count_ = 0, reference_count_ = 0;
};

}  // namespace

void bss_eval(const ExecutionContext& ctx, const BssEvalArgs& args) {
  WorkspaceScope scope(ctx.workspace());
  const Evaluation evaluation(ctx, scope, args);
  evaluation.write_silent();
  evaluation.write_measures(scope);
}

}  // namespace stemfabric::cpu
