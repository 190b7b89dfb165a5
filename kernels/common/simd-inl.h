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

#include "hwy/highway.h"

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

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SF_KERNELS_COMMON_SIMD_INL_H_
