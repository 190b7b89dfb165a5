#include "tests/support/feature_bounds.h"

#include <cmath>
#include <string>

#include "kernels/stft_features/feature_layout.h"

namespace stemfabric::test {
namespace {

// The features [begin, end), every `step`-th, of all frames.
std::vector<double> columns(const std::vector<double>& features, std::size_t begin, std::size_t end,
                            std::size_t step = 1) {
  std::vector<double> out;
  for (std::size_t row = 0; row < features.size(); row += kAudioFeatures) {
    for (std::size_t i = begin; i < end; i += step) {
      out.push_back(features[row + i]);
    }
  }
  return out;
}

// Amplitudes of logarithms of powers. Of these, rounding a frame's spectrum costs all bands the
// same; the logarithm of a band that happens to be weak, it costs as much as you like.
std::vector<double> amplitudes(std::vector<double> logarithms) {
  for (double& x : logarithms) {
    x = std::pow(10.0, x / 2);
  }
  return logarithms;
}

}  // namespace

void expect_features(const std::vector<double>& features, const std::vector<double>& naive,
                     const std::vector<double>& oracle, Floor floor) {
  struct Group {
    std::string name;
    std::size_t begin, end, step = 1;
    bool logarithms = false;
  };
  for (const Group& g :
       {Group{"spectral", 0, kStereoBegin, 1, true},
        Group{"side_ratio", kStereoBegin, kCorrelation, kStereoValues},
        Group{"pan", kStereoBegin + 1, kCorrelation, kStereoValues},
        Group{"phase", kStereoBegin + 2, kCorrelation, kStereoValues},
        Group{"correlation", kCorrelation, kHarmonicBegin},
        Group{"harmonic", kHarmonicBegin, kPercussiveBegin, 1, true},
        Group{"percussive", kPercussiveBegin, kTemporalBegin, 1, true},
        Group{"rms", kRms, kRms + 1}, Group{"zero_crossings", kZeroCrossings, kZeroCrossings + 1},
        Group{"pitch", kPitch, kPitch + 1}, Group{"flux", kFlux, kFlux + 1},
        Group{"energy", kEnergyBegin, kAudioFeatures, 1, true}}) {
    const auto values = [&](const std::vector<double>& of) {
      const auto chosen = columns(of, g.begin, g.end, g.step);
      return g.logarithms ? amplitudes(chosen) : chosen;
    };
    expect_within_bound(g.name, values(features), values(naive), values(oracle), floor);
  }
}

}  // namespace stemfabric::test
