// What random bits are used for: the `purpose` word of every Philox launch key of the project
// (kernels/common/philox.h). Two uses never share one, so no stream of bits is read twice.
#pragma once

#include <cstdint>

namespace stemfabric {

enum class RandomPurpose : uint32_t {
  kAttentionWeightDropout = 1,  // layer = block
  kAttentionOutputDropout = 2,  // layer = block
  kFeedForwardDropout = 3,      // layer = block
  kInitialWeights = 4,          // step = hash of the parameter's name
  kShuffle = 5,                 // step = epoch
  kAudioChunk = 6,              // step = epoch; layer = attempt
  kDemoSong = 7,                // step = song; layer = what is drawn
};

}  // namespace stemfabric
