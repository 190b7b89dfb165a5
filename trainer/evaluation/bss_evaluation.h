// Separated waveforms against the true ones: BSS-Eval v4 (kernels/bss_eval/bss_eval.h) by frame,
// its medians, the whole track, SI-SDR and the SDR of the demixing challenges. All in dB.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"
#include "trainer/evaluation/waveform_scores.h"

namespace stemfabric {

inline constexpr std::array<const char*, 4> kBssMeasures = {"SDR", "ISR", "SIR", "SAR"};

struct BssEvaluation {
  template <typename T>
  using PerMeasure = std::array<T, kBssMeasures.size()>;
  using PerSource = std::vector<double>;

  Device device;                                        // that BSS-Eval ran on
  int64_t window = 0, hop = 0, frame_count = 0;         // window and hop in samples
  std::vector<bool> silent_reference, silent_estimate;  // [S], from beginning to end
  PerMeasure<std::vector<std::vector<double>>> frames;  // [S][frame_count], NaN: see bss_eval.h
  PerMeasure<PerSource> median;                         // over frames
  PerMeasure<PerSource> whole;                          // the whole track as one frame
  PerSource source_sdr;                                 // bss_eval_sources, of the whole track
  std::vector<SiSdr> si_sdr;                            // [S]
  PerSource utterance_sdr;

  // A signal is silent, so museval refuses the whole track.
  bool refused_by_museval() const;
};

// references, estimates: [S, C, N] f32, last stride 1, finite, in host memory; estimate j belongs
// to reference j. BSS-Eval runs on the context's device, which gets a copy of both; the rest on its
// CPU threads. No bit depends on how many there are. OutOfMemoryError, which says what to do, if
// the signals and the work memory do not fit on the device.
BssEvaluation evaluate_bss(const ExecutionContext& ctx, const ConstTensorView& references,
                           const ConstTensorView& estimates, int64_t window, int64_t hop);

// The median of what is not NaN; infinities sort as the extremes they are; the mean of the two
// middle values if their number is even; NaN if nothing is left.
double median_without_nan(std::vector<double> values);

}  // namespace stemfabric
