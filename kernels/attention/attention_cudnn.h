// Softmax attention in bf16 by cuDNN (AttentionConfig::cudnn). In builds without it, and under the
// SIMT executor, which cannot run a library's kernels, no call is one of its (attention_cudnn.cpp).
//
// The library takes a graph of elementary operations that it knows to be attention and has kernels
// for as a whole:
//   S = s Q Kᵀ (+ bias)      m = max S      l = Σ exp(S − m)      P = exp(S − m) / l      O = P V
//   saved, in the place of stats: L = m + log l, [B, H, T] float32; o2 and u are not written
//   δ = Σ_d dO · O     P = exp(S − L)     dS = P (dO Vᵀ − δ)     dV = Pᵀ dO     dK = s dSᵀ Q
//   dQ = s dS K
// bias: float32 [B, T], 0 for an open key and kClosedKey for a masked one (attention_key_bias.h).
// Source: Dao et al., FlashAttention-2 (arXiv:2307.08691); the graph's form is the one that
// NVIDIA's documentation of cuDNN gives for attention.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/attention/attention.h"

namespace stemfabric::cuda {

class CudnnDevice;
class CudnnPlan;

// Of a plan; one that wants more is not taken.
inline constexpr std::size_t kMostCudnnScratch = std::size_t{1} << 30;
// What the backward takes of it, about: dS of all heads in bf16, in tiles of 64 tokens.
inline std::size_t cudnn_scratch_bytes(int64_t batch, int64_t tokens, int64_t heads) {
  const auto padded = static_cast<std::size_t>((tokens + 63) / 64 * 64);
  return static_cast<std::size_t>(batch * heads) * padded * padded * 2;
}

// Whether cuDNN computed it. Not if it is not asked for (AttentionConfig::cudnn), not in this build
// or not installed, has no plan that repeats to the last bit for the sizes and strides, or one that
// wants more than kMostCudnnScratch; the reason is logged, once for each.
bool cudnn_attention_forward(const ExecutionContext& ctx, const AttentionForwardArgs& args);
// Whether it computed the forward pass, and then the gradients. DeviceError if it has no plan for
// the strides of the gradients and they differ from those of q, k, v and o.
bool cudnn_attention_backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args);
// The version of cuDNN if it has computed a forward pass in this process; else empty.
std::string cudnn_attention_version();

// What a plan is made for. Strides of [B, T, H, D] tensors over batch entries, tokens and heads.
struct CudnnAttention {
  using Strides = std::array<int64_t, 3>;
  int64_t batch = 0, tokens = 0, heads = 0, dim = 0;
  bool masked = false;
  Strides q{}, k{}, v{}, o{};
  Strides d_o{}, dq{}, dk{}, dv{};  // backward; in the forward as its own tensors'
};
// DeviceError with the library's reason if there is none.
std::unique_ptr<CudnnPlan> cudnn_attention_forward_plan(CudnnDevice& device,
                                                        const CudnnAttention& attention);
std::unique_ptr<CudnnPlan> cudnn_attention_backward_plan(CudnnDevice& device,
                                                         const CudnnAttention& attention);

}  // namespace stemfabric::cuda
