// How well an estimate of one source separates it from the others, in dB: the projections of
// BSS-Eval (Vincent, Gribonval, Févotte 2006) without filter taps, on plain vectors.
//
//   target        t = (⟨e, s⟩ / ⟨s, s⟩) s        e: estimate, s: its true source
//   interference  i = P e − t                    P: orthogonal projection on the span of all
//   sources artifacts     a = e − P e SDR = 10 log10(|t|² / |i + a|²)   SIR = 10 log10(|t|² / |i|²)
//   SAR = 10 log10(|t + i|² / |a|²) overall = 0.4 n(SDR) + 0.4 n(SIR) + 0.2 n(SAR),   n(x) =
//   clip((x + 20) / 40, 0, 1)
//
// All in float64. Values are limited to ±kScoreLimitDb, also where a denominator is zero.
#pragma once

#include <span>
#include <vector>

namespace stemfabric {

inline constexpr double kScoreLimitDb = 100;
// A source whose part outside the span of the others is smaller than this share of its norm counts
// as lying in it: sources are float32 data, so smaller parts are rounding.
inline constexpr double kDependentShare = 1e-6;

// NaN = undefined.
struct SeparationScores {
  double sdr, sir, sar, overall;
};

double overall_score(double sdr, double sir, double sar);

// The span of the true sources of one record.
class SourceSpace {
 public:
  // Sources of equal length, none of them zero.
  explicit SourceSpace(std::vector<std::vector<double>> sources);

  // Dimension of the span; less than the number of sources if some depend on others.
  int rank() const { return static_cast<int>(basis_.size()); }
  // With a single source nothing can interfere: SIR and overall are undefined. An estimate that is
  // zero everywhere holds nothing of the target: the worst value in everything.
  SeparationScores score(std::span<const double> estimate, int source) const;

 private:
  std::vector<std::vector<double>> sources_;
  std::vector<std::vector<double>> basis_;  // orthonormal
};

}  // namespace stemfabric
