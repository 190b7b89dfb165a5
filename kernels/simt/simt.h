// The part of CUDA's device language that our kernels use, for g++: with SF_SIMT=1, launch.cuh
// includes this header instead of CUDA's, and the executor (executor.h) runs every thread of a
// block as a fiber on the calling thread. Only tests link it.
//
// What is modelled: blocks, threads, warps of 32; __syncthreads and warp collectives, whose
// participants are checked (a barrier that not all threads reach, a shuffle from a lane that takes
// no part, or threads that wait at different barriers are errors, with the source lines); shared
// memory, which holds a NaN pattern when a block starts; asynchronous copies, which become visible
// only at their wait; fragment operations of the tensor cores. What is not: time, caches, the
// memory model beyond "nothing is ordered but by a barrier", which a second schedule and
// ThreadSanitizer check.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): CUDA's names
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __grid_constant__
#define __align__(n) alignas(n)

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)  // NOLINT: implicit as CUDA's
      : x(x_), y(y_), z(z_) {}
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace stemfabric::simt {

using Site = std::source_location;

inline constexpr int kWarpSize = 32;
inline constexpr std::size_t kExchangeBytes = 64;  // per lane and collective

// What a running kernel thread knows of itself.
struct ThreadState {
  uint3 thread_index, block_index;
  dim3 block_dim, grid_dim;
  int lane = 0;
};
// The thread that runs now; an InternalError outside of a kernel.
const ThreadState& this_thread();

void block_barrier(Site site);
// Returns the OR, the AND and the count of `predicate` over the block.
struct BlockVote {
  int any, all, count;
};
BlockVote block_vote(bool predicate, Site site);

void warp_barrier(uint32_t mask, Site site);  // orders memory, which other collectives do not

// Hands in `bytes` of `value` and waits until every lane of `mask` has done so. The result is valid
// until this lane's next collective but one.
struct Exchange {
  const std::byte* lane(int lane) const;  // what that lane handed in; it must be in the mask
  uint32_t mask;
  const std::byte* slots;
  Site site;
};
Exchange warp_exchange(uint32_t mask, const void* value, std::size_t bytes, Site site);
// The lanes of the mask that say yes.
uint32_t warp_vote(uint32_t mask, bool predicate, Site site);

// Shared memory of the running block: one region per key, the same for all its threads.
void* shared_memory(const void* key, std::size_t bytes, std::size_t alignment);
void* dynamic_shared_memory(std::size_t* bytes = nullptr);

// Asynchronous copies of the running thread, see copy_async in memory.cuh.
void async_copy(void* to, const void* from, std::size_t bytes, std::size_t total);
void async_commit();
void async_wait(int groups_left);

template <typename T>
T exchanged(const Exchange& e, int lane) {
  T value;
  std::memcpy(&value, e.lane(lane), sizeof(T));
  return value;
}

// The lane that a shuffle reads: within a segment of `width` lanes, else the lane itself.
int shuffle_source(int lane, int source, int width);

template <typename T>
T shuffle(uint32_t mask, T value, int source, Site site) {
  static_assert(sizeof(T) <= kExchangeBytes);
  return exchanged<T>(warp_exchange(mask, &value, sizeof(T), site), source);
}

// Atomic operations are relaxed, as CUDA's are.
template <typename T>
T atomic_add(T* address, T value) {
  std::atomic_ref<T> target(*address);
  if constexpr (std::is_floating_point_v<T>) {
    T old = target.load(std::memory_order_relaxed);
    while (!target.compare_exchange_weak(old, old + value, std::memory_order_relaxed)) {
    }
    return old;
  } else {
    return target.fetch_add(value, std::memory_order_relaxed);
  }
}

}  // namespace stemfabric::simt

#define threadIdx (::stemfabric::simt::this_thread().thread_index)
#define blockIdx (::stemfabric::simt::this_thread().block_index)
#define blockDim (::stemfabric::simt::this_thread().block_dim)
#define gridDim (::stemfabric::simt::this_thread().grid_dim)

using SimtSite = ::stemfabric::simt::Site;
inline void __syncthreads(SimtSite site = SimtSite::current()) {
  ::stemfabric::simt::block_barrier(site);
}
inline int __syncthreads_or(int predicate, SimtSite site = SimtSite::current()) {
  return ::stemfabric::simt::block_vote(predicate != 0, site).any;
}
inline int __syncthreads_and(int predicate, SimtSite site = SimtSite::current()) {
  return ::stemfabric::simt::block_vote(predicate != 0, site).all;
}
inline int __syncthreads_count(int predicate, SimtSite site = SimtSite::current()) {
  return ::stemfabric::simt::block_vote(predicate != 0, site).count;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, SimtSite site = SimtSite::current()) {
  ::stemfabric::simt::warp_barrier(mask, site);
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              SimtSite site = SimtSite::current()) {
  const int self = ::stemfabric::simt::this_thread().lane;
  return ::stemfabric::simt::shuffle(mask, value, (self & ~(width - 1)) | (lane & (width - 1)),
                                     site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  SimtSite site = SimtSite::current()) {
  const int self = ::stemfabric::simt::this_thread().lane;
  return ::stemfabric::simt::shuffle(
      mask, value, ::stemfabric::simt::shuffle_source(self, self ^ lane_mask, width), site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   SimtSite site = SimtSite::current()) {
  const int self = ::stemfabric::simt::this_thread().lane;
  return ::stemfabric::simt::shuffle(
      mask, value, ::stemfabric::simt::shuffle_source(self, self + static_cast<int>(delta), width),
      site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 SimtSite site = SimtSite::current()) {
  const int self = ::stemfabric::simt::this_thread().lane;
  return ::stemfabric::simt::shuffle(
      mask, value, ::stemfabric::simt::shuffle_source(self, self - static_cast<int>(delta), width),
      site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SimtSite site = SimtSite::current()) {
  const char mine = predicate != 0 ? 1 : 0;
  const auto all = ::stemfabric::simt::warp_exchange(mask, &mine, 1, site);
  unsigned result = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1u) != 0 && static_cast<char>(*all.lane(lane)) != 0) {
      result |= 1u << lane;
    }
  }
  return result;
}
inline int __any_sync(unsigned mask, int predicate, SimtSite site = SimtSite::current()) {
  return ::stemfabric::simt::warp_vote(mask, predicate != 0, site) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate, SimtSite site = SimtSite::current()) {
  return ::stemfabric::simt::warp_vote(mask, predicate != 0, site) == mask ? 1 : 0;
}

template <typename T>
T atomicAdd(T* address, T value) {
  return ::stemfabric::simt::atomic_add(address, value);
}
template <typename T>
T atomicMin(T* address, T value) {
  std::atomic_ref<T> target(*address);
  T old = target.load(std::memory_order_relaxed);
  while (value < old && !target.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}
template <typename T>
T atomicMax(T* address, T value) {
  std::atomic_ref<T> target(*address);
  T old = target.load(std::memory_order_relaxed);
  while (old < value && !target.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

template <typename T>
T __ldg(const T* address) {
  return *address;
}
inline float __expf(float x) { return std::exp(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fdividef(float x, float y) { return x / y; }
inline void sincospif(float x, float* sine, float* cosine) {  // of π x
  const double angle = 3.14159265358979323846 * std::remainder(static_cast<double>(x), 2.0);
  *sine = static_cast<float>(std::sin(angle));
  *cosine = static_cast<float>(std::cos(angle));
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((std::uint64_t{a} * b) >> 32);
}
using std::max;
using std::min;
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
