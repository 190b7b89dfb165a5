#include "kernels/chunk_mix/chunk_mix.h"

#include <limits>

#include "kernels/chunk_mix/chunk_mix_cpu.h"
#include "kernels/chunk_mix/chunk_mix_cuda.h"
#include "kernels/common/dispatch.h"

namespace stemfabric {

void chunk_mix(const ExecutionContext& ctx, const ChunkMixArgs& args) {
  check_tensor("chunk_mix", "pcm", args.pcm, DType::kU8, {-1});
  check_tensor("chunk_mix", "mixture", args.mixture, DType::kF32, {-1, -1, -1});
  const int64_t batch = args.mixture.dim(0);
  const int64_t channels = args.mixture.dim(1);
  const int64_t frames = args.mixture.dim(2);
  check_tensor("chunk_mix", "parts", args.parts, DType::kU8,
               {batch, -1, static_cast<int64_t>(sizeof(ChunkPart))});
  if (args.stems) {
    check_tensor("chunk_mix", "stems", args.stems, DType::kF32, {batch, -1, channels, frames});
    SF_CHECK(args.stems.dim(1) <= args.parts.dim(1), "chunk_mix: {} stems of {} parts",
             args.stems.dim(1), args.parts.dim(1));
    SF_CHECK(args.stems.contiguous(), "chunk_mix: stems must be contiguous");
  }
  SF_CHECK(args.pcm.contiguous() && args.parts.contiguous() && args.mixture.contiguous(),
           "chunk_mix: pcm, parts and mixture must be contiguous");
  SF_CHECK(frames <= std::numeric_limits<int32_t>::max(), "chunk_mix: {} frames", frames);
  const auto at_multiple = [](const ConstTensorView& view, std::size_t bytes) {
    return reinterpret_cast<uintptr_t>(view.data()) % bytes == 0;
  };
  SF_CHECK(at_multiple(args.pcm, kPcmAlignment) && at_multiple(args.parts, alignof(ChunkPart)),
           "chunk_mix: pcm must begin at a multiple of {} bytes, parts of {}", kPcmAlignment,
           alignof(ChunkPart));
  SF_DISPATCH(ctx, chunk_mix, args);
}

}  // namespace stemfabric
