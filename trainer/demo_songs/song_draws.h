// Random choices of one song: Philox words keyed by (seed, song, what is drawn), so that any song
// can be made alone and a change to one part leaves the others as they were.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>

#include "kernels/common/philox.h"
#include "trainer/random_purpose.h"

namespace stemfabric {

enum class SongPart : uint32_t { kPlan, kDrums, kPerc, kBass, kHarmonic, kVocals, kIdentity };

class SongDraws {
 public:
  SongDraws(uint64_t seed, int64_t song, SongPart part)
      : key_(philox_launch_key(seed, static_cast<uint64_t>(song), static_cast<uint32_t>(part),
                               static_cast<uint32_t>(RandomPurpose::kDemoSong))) {}

  double uniform() {  // [0, 1)
    const PhiloxCounter c = philox4x32_10(
        {{static_cast<uint32_t>(count_), static_cast<uint32_t>(count_ >> 32), 0, 0}}, key_);
    ++count_;
    return static_cast<double>(philox_uniform(c.word[0]));
  }
  double between(double low, double high) { return low + (high - low) * uniform(); }
  int below(int n) { return static_cast<int>(uniform() * n); }  // 0 … n-1
  bool chance(double p) { return uniform() < p; }
  template <typename Values>
  const auto& pick(const Values& values) {
    return values[static_cast<std::size_t>(below(static_cast<int>(std::size(values))))];
  }

 private:
  PhiloxKey key_;
  uint64_t count_ = 0;
};

}  // namespace stemfabric
