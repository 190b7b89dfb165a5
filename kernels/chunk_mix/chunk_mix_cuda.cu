// Bound by memory: every sample of every part is read once, as it is stored, and every value
// written once; sums stay in registers. A block takes a tile of one channel of one chunk, so which
// parts there are and of which types is the same for all its threads; a thread takes four frames
// where outputs allow it, else one. Parts begin at multiples of 16 bytes: so do their vectors, and
// what a vector reads beyond a part's last frame is still the part's.
#include "kernels/chunk_mix/chunk_mix_cuda.h"
#include "kernels/common/launch.cuh"
#include "kernels/common/rounded.cuh"
#include "kernels/common/vector.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 4;
// Of a multiprocessor at least; left to itself, the compiler stays at 32 registers and spills.
constexpr int kBlocks = 4;

struct Mix {
  const unsigned char* pcm;
  int64_t bytes;  // of pcm
  const ChunkPart* parts;
  float* stems;  // null: there are none
  float* mixture;
  int channel_count, part_count, stem_count;
  int64_t frames;
  int64_t tiles;  // of a channel
};

template <typename T, int kWidth>
struct [[gnu::may_alias]] alignas(kWidth * sizeof(T)) Samples {
  T lane[kWidth];
};

// Frames n, n + 1, … of one channel of a part.
template <int kWidth, typename T>
__device__ __forceinline__ FloatVector<kWidth> values_of(const ChunkPart& part,
                                                         const unsigned char* channel, int64_t n) {
  FloatVector<kWidth> v = {};
  if (n < part.frames) {
    const auto from =
        *reinterpret_cast<const Samples<T, kWidth>*>(channel + n * int64_t{sizeof(T)});
    SF_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      v.lane[i] =
          n + i < part.frames ? multiply(part.factor, static_cast<float>(from.lane[i])) : 0.0f;
    }
  }
  return v;
}

template <int kWidth>
__device__ __forceinline__ FloatVector<kWidth> values_of(const Mix& m, const ChunkPart& part,
                                                         int channel, int64_t n) {
  if (part.type == PcmType::kNone) {
    return {};
  }
  if (!pcm_within(part, m.channel_count, m.bytes)) {
    FloatVector<kWidth> v;
    for (float& lane : v.lane) {
      lane = NAN;
    }
    return v;
  }
  const int c = part.swap != 0 ? m.channel_count - 1 - channel : channel;
  const unsigned char* from = m.pcm + part.begin + c * pcm_channel_bytes(part.type, part.frames);
  return part.type == PcmType::kI16 ? values_of<kWidth, int16_t>(part, from, n)
                                    : values_of<kWidth, float>(part, from, n);
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads, kBlocks) chunk_mix_kernel(Mix m) {
  const int64_t row = int64_t{blockIdx.x} / m.tiles;  // b · C + c
  const int64_t b = row / m.channel_count;
  const int channel = static_cast<int>(row % m.channel_count);
  const int64_t n =
      (int64_t{blockIdx.x} % m.tiles * kThreads + static_cast<int64_t>(threadIdx.x)) * kWidth;
  if (n >= m.frames) {
    return;
  }
  FloatVector<kWidth> sum = {};
  SF_UNROLL_4
  for (int p = 0; p < m.part_count; ++p) {
    const auto v = values_of<kWidth>(m, m.parts[b * m.part_count + p], channel, n);
    SF_UNROLL
    for (int i = 0; i < kWidth; ++i) {
      sum.lane[i] += v.lane[i];
    }
    if (p < m.stem_count) {
      const int64_t stem = (b * m.stem_count + p) * m.channel_count + channel;
      store_vector(m.stems + stem * m.frames + n, v);
    }
  }
  store_vector(m.mixture + row * m.frames + n, sum);
}

template <int kWidth>
void run(const ExecutionContext& ctx, Mix m, int64_t rows) {
  m.tiles = ceil_div(m.frames, int64_t{kThreads} * kWidth);
  launch(ctx, {.kernel = "chunk_mix_kernel", .grid = grid_size(rows * m.tiles), .block = kThreads},
         chunk_mix_kernel<kWidth>, m);
}

}  // namespace

void chunk_mix(const ExecutionContext& ctx, const ChunkMixArgs& args) {
  if (args.mixture.elements() == 0) {
    return;
  }
  const Mix m = {.pcm = args.pcm.as<uint8_t>(),
                 .bytes = static_cast<int64_t>(args.pcm.bytes()),
                 .parts = static_cast<const ChunkPart*>(args.parts.data()),
                 .stems = args.stems ? args.stems.as<float>() : nullptr,
                 .mixture = args.mixture.as<float>(),
                 .channel_count = static_cast<int>(args.mixture.dim(1)),
                 .part_count = static_cast<int>(args.parts.dim(1)),
                 .stem_count = args.stems ? static_cast<int>(args.stems.dim(1)) : 0,
                 .frames = args.mixture.dim(2),
                 .tiles = 0};
  const int64_t rows = args.mixture.dim(0) * args.mixture.dim(1);
  if (m.frames % kPerThread == 0 && aligned_for<kPerThread>(m.stems, m.mixture)) {
    run<kPerThread>(ctx, m, rows);
  } else {
    run<1>(ctx, m, rows);
  }
}

}  // namespace stemfabric::cuda
