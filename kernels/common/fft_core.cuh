// The complex FFT of n = 512 … 4096 points inside a block: 16 points per thread in registers, three
// steps (16 × 16 × n/256 points) that meet in shared memory. A block holds 4096 points: one
// transform, or as many as fit, each by n/16 threads of its own. Which algorithm: fft_tables.h.
//
// Shared memory has a gap of one point after each 16, so that the 16 outputs of the first step's
// threads, 16 points apart, do not meet in one bank.
#pragma once

#include "kernels/common/fft_tables.h"
#include "kernels/common/launch.cuh"

namespace stemfabric::cuda {

inline constexpr int kFftThreads = 256;
inline constexpr int kFftPoints = 16;  // per thread

// Where point i of a transform lies; points of a block.
__host__ __device__ constexpr int fft_place(int i) { return i + i / kFftPoints; }
inline constexpr int kFftBlockPlaces = fft_place(kFftThreads * kFftPoints);

// In memory of the device, made by device_fft_tables (fft_tables_cuda.h).
struct DeviceFftTables {
  const float2* roots;  // [n]: exp(−2πi·k/n)
  const float* window;  // [n]: sin²(πi/n)
};

// Which transform of the block the thread works on, and as which of its threads.
template <int kN>
struct FftThread {
  static constexpr int kThreads = kN / kFftPoints;
  static constexpr int kPerBlock = kFftThreads / kThreads;
  __device__ __forceinline__ FftThread()
      : transform(static_cast<int>(threadIdx.x) / kThreads),
        index(static_cast<int>(threadIdx.x) % kThreads) {}
  // Point r of the 16 that the thread loads.
  __device__ __forceinline__ int point(int r) const { return index + r * kThreads; }
  // The points of its transform.
  __device__ __forceinline__ float2* points(float2* block) const {
    return block + transform * fft_place(kN);
  }
  int transform, index;
};

__device__ __forceinline__ float2 operator+(float2 a, float2 b) {
  return make_float2(a.x + b.x, a.y + b.y);
}
__device__ __forceinline__ float2 operator-(float2 a, float2 b) {
  return make_float2(a.x - b.x, a.y - b.y);
}
__device__ __forceinline__ float2 operator*(float2 a, float2 b) {
  return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

// The transform of four points.
__device__ __forceinline__ void dft4(float2& a, float2& b, float2& c, float2& d) {
  const float2 ac = a + c;
  const float2 a_c = a - c;
  const float2 bd = b + d;
  const float2 b_d = b - d;
  a = ac + bd;
  b = make_float2(a_c.x + b_d.y, a_c.y - b_d.x);  // a − ib − c + id
  c = ac - bd;
  d = make_float2(a_c.x - b_d.y, a_c.y + b_d.x);  // a + ib − c − id
}

// exp(−2πi·k/16)
__device__ __forceinline__ float2 sixteenth(int k) {
  constexpr float kCosine[] = {1.0f,  0.923879533f,  0.707106781f,  0.382683432f,
                               0.0f,  -0.382683432f, -0.707106781f, -0.923879533f,
                               -1.0f, -0.923879533f};
  constexpr float kSine[] = {0.0f,  -0.382683432f, -0.707106781f, -0.923879533f,
                             -1.0f, -0.923879533f, -0.707106781f, -0.382683432f,
                             0.0f,  0.382683432f};
  return make_float2(kCosine[k], kSine[k]);
}

// The transform of v[0 … R−1]; its point k comes to lie in v[dft_place<R>(k)].
template <int R>
__host__ __device__ constexpr int dft_place(int k) {
  return R <= 4 ? k : k % 4 * (R / 4) + k / 4;
}
template <int R>
__device__ __forceinline__ void dft(float2* v) {
  static_assert(R == 2 || R == 4 || R == 8 || R == 16);
  if constexpr (R == 2) {
    const float2 sum = v[0] + v[1];
    v[1] = v[0] - v[1];
    v[0] = sum;
  } else if constexpr (R == 4) {
    dft4(v[0], v[1], v[2], v[3]);
  } else {
    constexpr int kRest = R / 4;
    SF_UNROLL
    for (int j = 0; j < kRest; ++j) {
      dft4(v[j], v[j + kRest], v[j + 2 * kRest], v[j + 3 * kRest]);
      SF_UNROLL
      for (int u = 1; u < 4 && j > 0; ++u) {
        v[j + u * kRest] = v[j + u * kRest] * sixteenth(j * u * (16 / R));
      }
    }
    SF_UNROLL
    for (int u = 0; u < 4; ++u) {
      dft<kRest>(v + u * kRest);
    }
  }
}

// One of the first two steps, with kS = 1 or 16 interleaved transforms: butterfly i of n/16, whose
// point r came from place i + r·n/16.
template <int kN, int kS>
__device__ __forceinline__ void fft_step(float2* v, float2* points, const float2* roots, int i) {
  static_assert(kS == 1 || kS == kFftPoints);
  dft<kFftPoints>(v);
  const int p = i / kS;
  float2* to = points + fft_place(i % kS + kS * kFftPoints * p);
  const float2* turn = roots + p * kS;
  to[0] = v[0];
  SF_UNROLL
  for (int u = 1; u < kFftPoints; ++u) {
    // Points that lie kS apart are no more than one gap apart.
    to[u * (kS == 1 ? 1 : fft_place(kS))] = v[dft_place<kFftPoints>(u)] * *turn;
    turn += p * kS;
  }
}

// In: v[r] is point self.point(r) of the thread's transform. Out: the transform lies in `points`,
// in order, for all threads of the block to read. All threads of the block call it, when none still
// reads `points`.
template <int kN>
__device__ __forceinline__ void fft(float2 (&v)[kFftPoints], float2* points, const float2* roots,
                                    const FftThread<kN>& self) {
  constexpr int kLast = kN / 256;  // points of a butterfly of the last step
  // Of places a multiple of 16 points apart, the distances are the same everywhere.
  float2* own = points + fft_place(self.index);
  constexpr int kDistance = fft_place(FftThread<kN>::kThreads);
  constexpr int kLastDistance = fft_place(256);
  fft_step<kN, 1>(v, points, roots, self.index);
  __syncthreads();
  SF_UNROLL
  for (int r = 0; r < kFftPoints; ++r) {
    v[r] = own[r * kDistance];
  }
  __syncthreads();
  fft_step<kN, kFftPoints>(v, points, roots, self.index);
  __syncthreads();
  // The last step reads and writes the same places.
  SF_UNROLL
  for (int butterfly = 0; butterfly < kFftPoints / kLast; ++butterfly) {
    float2 w[kLast];
    float2* from = own + butterfly * kDistance;
    SF_UNROLL
    for (int r = 0; r < kLast; ++r) {
      w[r] = from[r * kLastDistance];
    }
    dft<kLast>(w);
    SF_UNROLL
    for (int u = 0; u < kLast; ++u) {
      from[u * kLastDistance] = w[dft_place<kLast>(u)];
    }
  }
  __syncthreads();
}

// body.operator()<n>() for the n of an op's transform, which is an FFT size.
template <typename Body>
void with_fft_size(int64_t n, const Body& body) {
  switch (n) {
    case 512:
      return body.template operator()<512>();
    case 1024:
      return body.template operator()<1024>();
    case 2048:
      return body.template operator()<2048>();
    default:
      return body.template operator()<4096>();
  }
}

// The bins k of two real signals whose transform, as real and imaginary part, lies in `points`.
struct StereoBins {
  float2 left, right;
};
template <int kN>
__device__ __forceinline__ StereoBins stereo_bins(const float2* points, int k) {
  const float2 at = points[fft_place(k)];
  const float2 mirrored = points[fft_place((kN - k) % kN)];
  return {make_float2(0.5f * (at.x + mirrored.x), 0.5f * (at.y - mirrored.y)),
          make_float2(0.5f * (at.y + mirrored.y), 0.5f * (mirrored.x - at.x))};
}

}  // namespace stemfabric::cuda
