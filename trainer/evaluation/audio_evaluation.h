// Scores of a model of masks on whole tracks, beside those of the plain mixture: BSS-Eval v4
// (kernels/bss_eval/bss_eval.h) over frames of one second.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "trainer/audio_data/audio_dataset.h"
#include "trainer/evaluation/evaluation.h"
#include "trainer/separation/separate_signal.h"

namespace stemfabric {

// In dB; NaN = undefined. Of frames: the median over those in which no source is silent.
struct AudioScores {
  double sdr = std::numeric_limits<double>::quiet_NaN();
  double isr = std::numeric_limits<double>::quiet_NaN();
  double sir = std::numeric_limits<double>::quiet_NaN();
  double sar = std::numeric_limits<double>::quiet_NaN();
  double track_sdr = std::numeric_limits<double>::quiet_NaN();  // the whole track as one frame
};

// Who answers: the model, the plain mixture, or masks made from the truth (oracle_masks.h), which
// no model of such masks is expected to beat. The latter have SDRs only.
enum AudioEstimator : uint8_t { kModelEstimate, kMixtureEstimate, kIrm, kMwf, kAudioEstimators };
inline constexpr std::array<const char*, kAudioEstimators> kAudioEstimatorNames = {
    "model", "mixture", "IRM", "MWF"};

struct AudioTrackEvaluation {
  std::string id;
  int64_t frames = 0;
  int64_t sample_rate = 0;
  std::array<StemState, kStemCount> states{};
  std::array<std::array<AudioScores, kStemCount>, kAudioEstimators> scores;

  // SDR, SIR, SAR and overall, as the reports of snapshots have them.
  RecordEvaluation record() const;
};

// Over the evaluated stems of all tracks, or of one stem (kStemCount: all).
Distribution sdr_of(const std::vector<AudioTrackEvaluation>& tracks, AudioEstimator estimator,
                    std::size_t stem, double AudioScores::*which = &AudioScores::sdr);

// SDR of frames of `window` samples, its median, and that of the whole: what evaluate_bss() gives,
// without projections. [S, C, N] f32, last stride 1.
struct FrameSdr {
  double median, whole;
};
std::vector<FrameSdr> frame_sdr(const ConstTensorView& references, const ConstTensorView& estimates,
                                int64_t window);

// A track in memory: what is separated, and the truth. Stems that are not known are zero.
struct TrackSignals {
  Tensor mixture;    // [2, N] f32
  Tensor stems;      // [6, 2, N]
  Tensor estimates;  // [6, 2, N]; empty without a model
};
TrackSignals read_track(const AudioTrack& track);
// The estimates of the model; the residual is left where it is. NumericError that names the track
// if they are not finite.
void separate_track(SeparationModel& model, const AudioTrack& track, int64_t num_overlap,
                    TrackSignals& signals);
// BSS-Eval runs on the device of `ctx`; `cpu`, which may be the same, makes the oracle masks.
AudioTrackEvaluation evaluate_track(const ExecutionContext& ctx, const ExecutionContext& cpu,
                                    const AudioTrack& track, int64_t sample_rate,
                                    const TrackSignals& signals);

}  // namespace stemfabric
