// Where each feature of stft_features.h lies, and the constants of their formulas.
#pragma once

#include <cstdint>

namespace stemfabric {

inline constexpr int kSpectralFeatures = 128;
inline constexpr int kStereoFeatures = 64;
inline constexpr int kHarmonicFeatures = 32;
inline constexpr int kPercussiveFeatures = 24;
inline constexpr int kTemporalFeatures = 4;
inline constexpr int kEnergyFeatures = 4;

inline constexpr int kStereoBegin = kSpectralFeatures;
inline constexpr int kHarmonicBegin = kStereoBegin + kStereoFeatures;
inline constexpr int kPercussiveBegin = kHarmonicBegin + kHarmonicFeatures;
inline constexpr int kTemporalBegin = kPercussiveBegin + kPercussiveFeatures;
inline constexpr int kEnergyBegin = kTemporalBegin + kTemporalFeatures;
inline constexpr int kAudioFeatures = kEnergyBegin + kEnergyFeatures;

// Of each stereo group: side ratio, pan, phase.
inline constexpr int kStereoGroups = 21;
inline constexpr int kStereoValues = 3;
inline constexpr int kCorrelation = kStereoBegin + kStereoGroups * kStereoValues;

inline constexpr int kRms = kTemporalBegin;
inline constexpr int kZeroCrossings = kTemporalBegin + 1;
inline constexpr int kPitch = kTemporalBegin + 2;
inline constexpr int kFlux = kTemporalBegin + 3;

static_assert(kAudioFeatures == 256 && kCorrelation + 1 == kHarmonicBegin);

// Frames and bands on either side that a median reaches over.
inline constexpr int kMedianReach = 8;
inline constexpr int kMedianWidth = 2 * kMedianReach + 1;
inline constexpr int kFeatureContextFrames = kMedianReach;

inline constexpr float kPowerFloor = 1e-10f;     // −100 dB
inline constexpr float kAmplitudeFloor = 1e-5f;  // its root
inline constexpr double kPitchLowest = 55;       // Hz; A1
inline constexpr double kPitchHighest = 1760;    // Hz; A6
inline constexpr int kPitchHarmonics = 5;
inline constexpr float kHarmonicDecay = 0.8f;
inline constexpr int64_t kLowestSampleRate = 8000;
inline constexpr int64_t kHighestSampleRate = 192000;

}  // namespace stemfabric
