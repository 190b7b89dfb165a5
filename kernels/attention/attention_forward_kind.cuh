// The shapes of the forward kernel, one for each head dimension and kind of pass, its parameters
// and its shared memory.
#pragma once

#include "kernels/attention/attention_forward_rows.cuh"

namespace stemfabric::attention::forward {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = kWarps * kWarpLanes;
inline constexpr int kGroups = kWarpLanes / kColumns;  // rows that a warp works on at once
// Floats from a row of weights to the next.
inline constexpr int kWeightStride = kTileKeys + kColumns;

// Sums with V of a row, in this order; softmax and inference need the first alone.
enum Sum : int { kSumOut, kSumInner, kSumSlope };

template <int kDimT, bool kPolynomialT, bool kTrainingT, bool kDropoutT>
struct ForwardKind {
  static constexpr int kDim = kDimT;  // padded head dimension
  static constexpr bool kPolynomial = kPolynomialT;
  static constexpr bool kTraining = kTrainingT;  // softmax: its three results are one sum
  static constexpr bool kDropout = kDropoutT;
  static constexpr bool kConstant = kPolynomial && !kDropout;  // c0 V̂ apart from R V
  static constexpr int kSums = kPolynomial && kTraining ? 3 : 1;
  static constexpr int kPowers = kPolynomial ? kAttentionDegree : 1;
  static constexpr int kRows = kDim == 128 && kSums == 3 ? 2 : 4;  // rows per lane
  static constexpr int kWarpRows = kGroups * kRows;
  static constexpr int kBlockRows = kWarps * kWarpRows;
  static constexpr int kStride = kDim + 4;                    // of Q and K in shared memory
  static constexpr int kWidth = kDim / kColumns < 4 ? 2 : 4;  // neighbouring columns of V
  static constexpr int kChunks = kDim / (kColumns * kWidth);  // … of which a lane has so many
  static constexpr int kBlocks =
      kSums == 3 ? (kDim <= 32 ? 3 : 2) : (kDim == 32 || kDim == 64 ? 4 : 3);
};

struct ForwardParameters {
  Rows<const float> q, k, v;
  KeyMask mask;
  Rows<float> o, o2, u;
  StatRows<float> stats;
  AttentionCoefficients coefficients;
  Keep keep;
  float keep_scale, kappa;
  int64_t tokens, heads, tiles;
  int dim;
  bool training, vector_loads, vector_stores;
};

template <class Kind>
struct alignas(16) ForwardShared {
  float q[Kind::kBlockRows * Kind::kStride];
  float k[kTileKeys * Kind::kStride];
  float v[kTileKeys * Kind::kDim];
  float weights[kWarps][Kind::kSums][Kind::kWarpRows * kWeightStride];
  RowTerms terms[Kind::kBlockRows];
  RowSums sums[Kind::kBlockRows];
  float value_sum[kThreads];
};

}  // namespace stemfabric::attention::forward
