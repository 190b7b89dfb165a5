#include "trainer/evaluation/audio_evaluation.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/check.h"
#include "trainer/evaluation/bss_evaluation.h"
#include "trainer/evaluation/oracle_masks.h"

namespace stemfabric {
namespace {

constexpr int64_t kOracleWindow = OracleMaskArgs().n_fft;

bool is_silent(const ConstTensorView& signal) {
  const float* x = signal.as<float>();
  return std::all_of(x, x + signal.elements(), [](float v) { return v == 0.0F; });
}

// The stems that are evaluated, one after the other: [S, 2, N].
Tensor chosen(const Tensor& all, const std::vector<int64_t>& stems) {
  const Shape& s = all.shape();
  Tensor some({static_cast<int64_t>(stems.size()), s[1], s[2]}, DType::kF32);
  for (std::size_t i = 0; i < stems.size(); ++i) {
    const float* from = all.as<float>() + stems[i] * s[1] * s[2];
    std::copy_n(from, s[1] * s[2], some.as<float>() + static_cast<int64_t>(i) * s[1] * s[2]);
  }
  return some;
}

// NaN stays NaN; infinities become those of the reports of snapshots.
double limited(double value) { return std::clamp(value, -kScoreLimitDb, kScoreLimitDb); }

void score(const ExecutionContext& ctx, const ConstTensorView& references,
           const ConstTensorView& estimates, int64_t window, const std::vector<int64_t>& stems,
           std::array<AudioScores, kStemCount>& scores) {
  const BssEvaluation bss = evaluate_bss(ctx, references, estimates, window, window);
  for (std::size_t i = 0; i < stems.size(); ++i) {
    scores[static_cast<std::size_t>(stems[i])] = {.sdr = limited(bss.median[0][i]),
                                                  .isr = limited(bss.median[1][i]),
                                                  .sir = limited(bss.median[2][i]),
                                                  .sar = limited(bss.median[3][i]),
                                                  .track_sdr = limited(bss.whole[0][i])};
  }
}

void score_oracle(const ExecutionContext& cpu, OracleMask mask, const Tensor& mixture,
                  const Tensor& references, int64_t window, const std::vector<int64_t>& stems,
                  std::array<AudioScores, kStemCount>& scores) {
  Tensor estimates(references.shape(), DType::kF32);
  separate_by_oracle_masks(cpu, {.mask = mask,
                                 .mixture = mixture.view(),
                                 .stems = references.view(),
                                 .estimates = estimates.view()});
  const std::vector<FrameSdr> sdr = frame_sdr(references.view(), estimates.view(), window);
  for (std::size_t i = 0; i < stems.size(); ++i) {
    AudioScores& of = scores[static_cast<std::size_t>(stems[i])];
    of.sdr = limited(sdr[i].median);
    of.track_sdr = limited(sdr[i].whole);
  }
}

SeparationScores plain(const AudioScores& scores) {
  return {.sdr = scores.sdr,
          .sir = scores.sir,
          .sar = scores.sar,
          .overall = overall_score(scores.sdr, scores.sir, scores.sar)};
}

}  // namespace

std::vector<FrameSdr> frame_sdr(const ConstTensorView& references, const ConstTensorView& estimates,
                                int64_t window) {
  const int64_t sources = references.dim(0);
  const int64_t length = references.dim(2);
  // [signal, error] energy of every source; whether a source is silent, as bss_eval.h has it.
  struct Sums {
    std::vector<double> signal, error;
    std::vector<bool> silent;
  };
  const auto sums = [&](int64_t begin, int64_t end) {
    Sums result;
    for (int64_t s = 0; s < sources; ++s) {
      double signal = 0;
      double error = 0;
      bool reference_sounds = false;
      bool estimate_sounds = false;
      for (int64_t n = begin; n < end; ++n) {
        float reference_sum = 0;
        float estimate_sum = 0;
        for (int64_t c = 0; c < references.dim(1); ++c) {
          const float r =
              references.as<float>()[s * references.stride(0) + c * references.stride(1) + n];
          const float e =
              estimates.as<float>()[s * estimates.stride(0) + c * estimates.stride(1) + n];
          reference_sum += r;
          estimate_sum += e;
          const double difference = static_cast<double>(e) - static_cast<double>(r);
          signal += static_cast<double>(r) * static_cast<double>(r);
          error += difference * difference;
        }
        reference_sounds = reference_sounds || reference_sum != 0;
        estimate_sounds = estimate_sounds || estimate_sum != 0;
      }
      result.signal.push_back(signal);
      result.error.push_back(error);
      result.silent.push_back(!reference_sounds || !estimate_sounds);
    }
    return result;
  };
  const int64_t width = std::min(window, length);
  std::vector<std::vector<double>> frames(static_cast<std::size_t>(sources));
  // A source that is silent from start to end has no values and drops no frame of the others.
  const Sums whole = sums(0, length);
  for (int64_t begin = 0; begin + width <= length; begin += width) {
    const Sums frame = sums(begin, begin + width);
    bool dropped = false;
    for (std::size_t s = 0; s < frames.size(); ++s) {
      dropped = dropped || (frame.silent[s] && !whole.silent[s]);
    }
    for (std::size_t s = 0; s < frames.size() && !dropped; ++s) {
      if (!whole.silent[s]) {
        frames[s].push_back(10 * std::log10(frame.signal[s] / frame.error[s]));
      }
    }
  }
  std::vector<FrameSdr> result;
  for (std::size_t s = 0; s < frames.size(); ++s) {
    result.push_back({.median = median_without_nan(frames[s]),
                      .whole = whole.silent[s]
                                   ? std::numeric_limits<double>::quiet_NaN()
                                   : 10 * std::log10(whole.signal[s] / whole.error[s])});
  }
  return result;
}

Distribution sdr_of(const std::vector<AudioTrackEvaluation>& tracks, AudioEstimator estimator,
                    std::size_t stem, double AudioScores::*which) {
  std::vector<double> values;
  for (const AudioTrackEvaluation& track : tracks) {
    for (std::size_t s = 0; s < kStemCount; ++s) {
      if ((stem == kStemCount || s == stem) && track.states[s] == StemState::kEvaluated) {
        values.push_back(track.scores[estimator][s].*which);
      }
    }
  }
  return distribution_of(std::move(values));
}

RecordEvaluation AudioTrackEvaluation::record() const {
  RecordEvaluation record{.id = id, .elements = frames};
  for (std::size_t s = 0; s < kStemCount; ++s) {
    record.stems[s].state = states[s];
    if (states[s] == StemState::kEvaluated) {
      ++record.independent_stems;
      record.stems[s].model = plain(scores[kModelEstimate][s]);
      record.stems[s].mixture = plain(scores[kMixtureEstimate][s]);
    }
  }
  return record;
}

TrackSignals read_track(const AudioTrack& track) {
  const int64_t n = track.frames();
  TrackSignals signals{.mixture = Tensor::zeros({kAudioChannels, n}, DType::kF32),
                       .stems = Tensor::zeros({kStemCount, kAudioChannels, n}, DType::kF32),
                       .estimates = {}};
  for (int c = 0; c < kAudioChannels; ++c) {
    float* mixture = signals.mixture.as<float>() + c * n;
    for (int p = 0; p < kAudioParts; ++p) {
      if (!track.pcm(p)) {
        continue;
      }
      if (p < kStemCount) {
        track.add(p, c, 0, n, 1.0F, signals.stems.as<float>() + (p * kAudioChannels + c) * n);
      }
      track.add(p, c, 0, n, 1.0F, mixture);
    }
  }
  return signals;
}

void separate_track(SeparationModel& model, const AudioTrack& track, int64_t num_overlap,
                    TrackSignals& signals) {
  const int64_t n = track.frames();
  signals.estimates = Tensor(signals.stems.shape(), DType::kF32);
  int64_t read = 0;
  int64_t written = 0;
  separate_signal(
      model, {.num_overlap = num_overlap, .gain = track.info().gain}, n,
      [&](int64_t frames, float* planar, int64_t stride) {
        for (int c = 0; c < kAudioChannels; ++c) {
          std::copy_n(signals.mixture.as<float>() + c * n + read, frames, planar + c * stride);
        }
        read += frames;
      },
      [&](const ConstTensorView& stems) {
        const int64_t frames = stems.dim(2);
        for (int64_t i = 0; i < kStemCount * kAudioChannels; ++i) {
          const float* from = stems.as<float>() + i / kAudioChannels * stems.stride(0) +
                              i % kAudioChannels * stems.stride(1);
          std::copy_n(from, frames, signals.estimates.as<float>() + i * n + written);
        }
        written += frames;
      });
  const float* values = signals.estimates.as<float>();
  if (!std::all_of(values, values + signals.estimates.elements(),
                   [](float x) { return std::isfinite(x); })) {
    throw NumericError("{}: the model's estimates are not finite; its weights are of no use",
                       track.info().id);
  }
}

AudioTrackEvaluation evaluate_track(const ExecutionContext& ctx, const ExecutionContext& cpu,
                                    const AudioTrack& track, int64_t sample_rate,
                                    const TrackSignals& signals) {
  AudioTrackEvaluation result{
      .id = track.info().id, .frames = track.frames(), .sample_rate = sample_rate, .scores = {}};
  std::vector<int64_t> stems;
  for (int s = 0; s < kStemCount; ++s) {
    StemState& state = result.states[static_cast<std::size_t>(s)];
    state = !track.present(s)                                ? StemState::kAbsent
            : is_silent(signals.stems.view().slice(0, s, 1)) ? StemState::kSilent
                                                             : StemState::kEvaluated;
    if (state == StemState::kEvaluated) {
      stems.push_back(s);
    }
  }
  if (stems.empty()) {
    return result;
  }
  const Tensor references = chosen(signals.stems, stems);
  const auto count = static_cast<int64_t>(stems.size());
  const int64_t n = track.frames();
  // The mixture as the estimate of every stem: the same memory again and again.
  const ConstTensorView mixture(signals.mixture.as<float>(), DType::kF32,
                                Shape{count, kAudioChannels, n}, {0, n, 1});
  score(ctx, references.view(), mixture, sample_rate, stems, result.scores[kMixtureEstimate]);
  if (n > kOracleWindow / 2) {
    score_oracle(cpu, OracleMask::kRatio, signals.mixture, references, sample_rate, stems,
                 result.scores[kIrm]);
    score_oracle(cpu, OracleMask::kWiener, signals.mixture, references, sample_rate, stems,
                 result.scores[kMwf]);
  }
  if (signals.estimates) {
    const Tensor estimates = chosen(signals.estimates, stems);
    score(ctx, references.view(), estimates.view(), sample_rate, stems,
          result.scores[kModelEstimate]);
  }
  return result;
}

}  // namespace stemfabric
