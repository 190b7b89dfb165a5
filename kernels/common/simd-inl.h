// Loops shared by the Highway files of the ops. Include it after hwy/highway.h, inside a file that
// is compiled once per target (foreach_target), like every *-inl.h.
#if defined(SF_KERNELS_COMMON_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SF_KERNELS_COMMON_SIMD_INL_H_
#undef SF_KERNELS_COMMON_SIMD_INL_H_
#else
#define SF_KERNELS_COMMON_SIMD_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using DoubleTag = hn::ScalableTag<double>;
using HalfFloatTag = hn::Rebind<float, DoubleTag>;  // as many floats as a vector has doubles

// body(tag, i) for i = 0 … n-1 in steps of the tag's lanes: whole vectors first, then one element
// at a time with the same code, so that nothing beyond n is touched.
template <class Body>
HWY_INLINE void for_lanes(int64_t n, const Body& body) {
  const FloatTag d;
  const hn::CappedTag<float, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    body(d, i);
  }
  for (; i < n; ++i) {
    body(d1, i);
  }
}

// Two sums over i = 0 … n-1 at once: body(tag, i, first, second) adds the lanes of its terms to the
// vectors first and second. Two accumulators each; the order of additions depends on n alone.
struct TwoSums {
  float first;
  float second;
};
template <class Body>
HWY_INLINE TwoSums two_sums(int64_t n, const Body& body) {
  const FloatTag d;
  const hn::CappedTag<float, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a0 = hn::Zero(d);
  auto a1 = hn::Zero(d);
  auto b0 = hn::Zero(d);
  auto b1 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    body(d, i, a0, b0);
    body(d, i + lanes, a1, b1);
  }
  for (; i + lanes <= n; i += lanes) {
    body(d, i, a0, b0);
  }
  auto a = hn::Zero(d1);
  auto b = hn::Zero(d1);
  for (; i < n; ++i) {
    body(d1, i, a, b);
  }
  return {hn::GetLane(hn::SumOfLanes(d, hn::Add(a0, a1))) + hn::GetLane(a),
          hn::GetLane(hn::SumOfLanes(d, hn::Add(b0, b1))) + hn::GetLane(b)};
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SF_KERNELS_COMMON_SIMD_INL_H_
