// CPU implementation of bss_eval.h. Called by bss_eval.cpp with checked arguments.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/bss_eval/bss_eval.h"

namespace stemfabric::cpu {

void bss_eval(const ExecutionContext& ctx, const BssEvalArgs& args);

// What is left when silent signals are put aside: each signal is one channel.
struct BssSignals {
  int64_t channels, length, taps;
  std::span<const float* const> references;  // p signals, C of each source that is not zero
  std::span<const float* const> estimates;   // q signals, C of each source that is scored
  std::span<const int64_t> own;  // per scored source: where its C signals start in references
};

}  // namespace stemfabric::cpu
