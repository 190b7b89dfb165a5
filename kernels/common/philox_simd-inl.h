// Philox4x32-10 on vectors: one counter per 32-bit lane. Bits as in philox.h. A *-inl.h: include it
// after hwy/highway.h in a file that is compiled once per target. Not for the scalar target.
#if defined(SF_KERNELS_COMMON_PHILOX_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SF_KERNELS_COMMON_PHILOX_SIMD_INL_H_
#undef SF_KERNELS_COMMON_PHILOX_SIMD_INL_H_
#else
#define SF_KERNELS_COMMON_PHILOX_SIMD_INL_H_
#endif

#include <hwy/highway.h>
#include "kernels/common/philox.h"

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

using WordTag = hwy::HWY_NAMESPACE::ScalableTag<uint32_t>;
using WordVec = hwy::HWY_NAMESPACE::Vec<WordTag>;

struct PhiloxVec {
  WordVec word[4];
};

// The high and low words of the products of all lanes with a constant.
HWY_INLINE void philox_multiply(WordVec a, WordVec by, WordVec& high, WordVec& low) {
  namespace hn = hwy::HWY_NAMESPACE;
  const WordTag d;
  const hn::RepartitionToWide<WordTag> wide;
  const auto even = hn::MulEven(a, by);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a))), by);
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
}

HWY_INLINE PhiloxVec philox4x32_10(PhiloxVec c, PhiloxKey key) {
  namespace hn = hwy::HWY_NAMESPACE;
  const WordTag d;
  const auto m0 = hn::Set(d, 0xD2511F53u);
  const auto m1 = hn::Set(d, 0xCD9E8D57u);
  for (int round = 0; round < 10; ++round) {
    WordVec high0, low0, high1, low1;
    philox_multiply(c.word[0], m0, high0, low0);
    philox_multiply(c.word[2], m1, high1, low1);
    c = {{hn::Xor(hn::Xor(high1, c.word[1]), hn::Set(d, key.word[0])), low1,
          hn::Xor(hn::Xor(high0, c.word[3]), hn::Set(d, key.word[1])), low0}};
    key.word[0] += 0x9E3779B9u;
    key.word[1] += 0xBB67AE85u;
  }
  return c;
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HWY_TARGET != HWY_SCALAR

#endif  // SF_KERNELS_COMMON_PHILOX_SIMD_INL_H_
