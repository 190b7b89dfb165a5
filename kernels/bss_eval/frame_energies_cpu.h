// Energies of what bss_eval's projections leave of an estimate, frame by frame, on the CPU.
#pragma once

#include <span>

#include "kernels/bss_eval/bss_eval_cpu.h"
#include "kernels/bss_eval/projection_filters_cpu.h"

namespace stemfabric::cpu {

// Sums of squares over a frame's channels and samples; s: reference, y: estimate, Q and P: the
// projections of y on its own source and on all.
struct BssEnergies {
  double target = 0;        // s
  double error = 0;         // y − s
  double spatial = 0;       // Q − s
  double own = 0;           // Q
  double interference = 0;  // P − Q
  double all = 0;           // P
  double artefacts = 0;     // y − P
  double own_error = 0;     // y − Q
};

struct BssFrame {
  int64_t begin, end;  // samples
};

// out: [frames, scored sources].
void bss_frame_energies(const ExecutionContext& ctx, const BssSignals& signals,
                        const BssFilters& filters, std::span<const BssFrame> frames,
                        BssEnergies* out);

}  // namespace stemfabric::cpu
