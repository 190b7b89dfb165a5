// Chunks of music from their parts as they lie in files: the parts scaled, with left and right
// changed where that is asked for, and their sum.
//
//   value[b,p,c,n] = factor · pcm[p of b][swap ? C − 1 − c : c][n],  0 for n ≥ frames of the part
//   stems[b,s,c,n] = value[b,s,c,n]        s < S
//   mixture[b,c,n] = Σ_p value[b,p,c,n]    from 0, in the order of p
// The first S parts are stems; those after them only sound in the mixture.
//
//   tensor  | shape                        | dtype | written | note
//   pcm     | [bytes], contiguous          | u8    |         | samples of all parts, 16-byte
//   aligned parts   | [B, P, sizeof(ChunkPart)]    | u8    |         | contiguous, 8-byte aligned
//   stems   | [B, S, C, N], contiguous     | f32   | =       | optional; S ≤ P
//   mixture | [B, C, N], contiguous        | f32   | =       |
// A part is described where the op runs, so that a captured op reads new parts each time. Its
// channels lie one after another, each from a multiple of 16 bytes on. One that does not lie within
// pcm, begins elsewhere or has no such type is not read: its values are NaN.
// Each product and each sum is rounded to float32 once, nothing is fused: the same bits everywhere.
#pragma once

#include <cstdint>

#include "runtime/core/host_device.h"
#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"

namespace stemfabric {

enum class PcmType : uint32_t { kNone, kI16, kF32 };  // kNone: the part is absent, all its values 0

struct ChunkPart {
  int64_t begin = 0;   // byte of pcm, a multiple of kPcmAlignment
  int32_t frames = 0;  // of a channel; N at most are taken
  float factor = 0;    // of a sample as it is stored
  PcmType type = PcmType::kNone;
  uint32_t swap = 0;  // 1: channels in reverse order
};
inline constexpr int64_t kPcmAlignment = 16;

SF_HOST_DEVICE constexpr int64_t pcm_sample_bytes(PcmType type) {
  return type == PcmType::kI16 ? 2 : 4;
}
// From one channel of a part to the next.
SF_HOST_DEVICE constexpr int64_t pcm_channel_bytes(PcmType type, int64_t frames) {
  return (frames * pcm_sample_bytes(type) + kPcmAlignment - 1) / kPcmAlignment * kPcmAlignment;
}
// Can the part be read?
SF_HOST_DEVICE constexpr bool pcm_within(const ChunkPart& part, int64_t channels, int64_t bytes) {
  return (part.type == PcmType::kI16 || part.type == PcmType::kF32) && part.frames >= 0 &&
         part.begin >= 0 && part.begin % kPcmAlignment == 0 &&
         part.begin <= bytes - channels * pcm_channel_bytes(part.type, part.frames);
}

struct ChunkMixArgs {
  ConstTensorView pcm, parts;
  TensorView stems, mixture;
};
void chunk_mix(const ExecutionContext& ctx, const ChunkMixArgs& args);

}  // namespace stemfabric
