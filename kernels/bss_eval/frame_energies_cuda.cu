// Overlap-save: a block of taps−1 earlier and as many new samples as still fit gives the outputs of
// the new ones, so no block needs another.
#include <algorithm>

#include "kernels/bss_eval/bss_signals.cuh"
#include "kernels/common/block_reduce.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kWarps = kBssFftThreads / kWarpLanes;
static_assert(kWarps == kBssEnergies);

struct FrameParameters {
  BssSignals signals;
  BssFrames frames;
  const BssComplex* roots;
  int64_t first_item;   // of the launch
  BssComplex* spectra;  // [items of the launch, p, kBssBins]: of the references
  BssFilters filters;
  double* parts;
};

// A block of a frame: outputs `start` and on, of samples [begin, end).
struct Item {
  __device__ __forceinline__ Item(const FrameParameters& p, int64_t item)
      : dropped(false), begin(0), end(p.signals.length) {
    const int64_t blocks = p.frames.blocks(p.signals, p.frames.window);
    int64_t block = item - p.frames.count * blocks;  // of the whole signal
    if (block < 0) {
      const int64_t frame = item / blocks;
      block = item % blocks;
      dropped = p.frames.dropped[frame] != 0;
      begin = frame * p.frames.hop;
      end = begin + p.frames.window;
    }
    start = begin + block * p.signals.step();
    outputs = min(p.signals.step(), end + p.signals.taps - 1 - start);
  }
  bool dropped;
  int64_t begin, end, start, outputs;
};

__global__ void __launch_bounds__(kBssFftThreads) bss_frame_spectra_kernel(FrameParameters p) {
  const Item item(p, p.first_item + blockIdx.x);
  if (item.dropped) {
    return;
  }
  auto& shared = shared_storage<BssFftStorage>();
  const float* x = p.signals.references[blockIdx.y];
  const int64_t from = item.start - (p.signals.taps - 1);
  bss_forward(
      shared.points, p.roots,
      [&](int t) {
        const int64_t at = from + t;
        return at >= item.begin && at < item.end ? static_cast<double>(x[at]) : 0.0;
      },
      p.spectra + (int64_t{blockIdx.x} * gridDim.y + blockIdx.y) * kBssBins);
}

// In dynamic shared memory.
struct EnergyStorage {
  BssFftStorage fft;
  double all[kBssFft];  // the projection on all references; of a thread every kBssFftThreads-th
  double sums[kWarps][kBssEnergies];
};

// The samples of a projection from `terms` references, spectra and filters kBssBins apart. All
// threads of the block call it.
__device__ __forceinline__ void project(BssComplex* points, const BssComplex* roots,
                                        const BssComplex* spectra, const BssComplex* filters,
                                        int terms) {
  bss_inverse(points, roots, [&](int bin) {
    BssComplex sum = {0, 0};
    for (int64_t t = 0; t < terms; ++t) {
      sum = sum + spectra[t * kBssBins + bin] * filters[t * kBssBins + bin];
    }
    return sum;
  });
}

// Two blocks: else the compiler makes room for three, and spills.
__global__ void __launch_bounds__(kBssFftThreads, 2) bss_frame_energies_kernel(FrameParameters p) {
  const Item item(p, p.first_item + blockIdx.x);
  if (item.dropped) {
    return;
  }
  auto& shared = *reinterpret_cast<EnergyStorage*>(dynamic_shared());
  const auto estimate = static_cast<int>(blockIdx.y);
  const int channels = p.signals.channels;
  const int own = p.signals.own[estimate / channels];
  const BssComplex* spectra = p.spectra + int64_t{blockIdx.x} * p.signals.p * kBssBins;
  BssComplex* points = shared.fft.points;
  project(points, p.roots, spectra, p.filters.all + int64_t{estimate} * p.signals.p * kBssBins,
          p.signals.p);
  const auto self = static_cast<int>(threadIdx.x);
  for (int i = self; i < kBssPoints; i += kBssFftThreads) {
    shared.all[i] = bss_even(points, i);
    shared.all[kBssPoints + i] = bss_odd(points, i);
  }
  __syncthreads();  // `points` may be written again
  project(points, p.roots, spectra + int64_t{own} * kBssBins,
          p.filters.own + int64_t{estimate} * channels * kBssBins, channels);

  const float* target = p.signals.references[own + estimate % channels];
  const float* answer = p.signals.estimates[estimate];
  double sums[kBssEnergies] = {};
  for (int i = self; i < kBssFft; i += kBssFftThreads) {
    const bool even = i < kBssPoints;
    const int point = even ? i : i - kBssPoints;
    const int64_t output = 2 * point + (even ? 0 : 1) - (p.signals.taps - 1);
    if (output < 0 || output >= item.outputs) {
      continue;
    }
    const int64_t at = item.start + output;
    const double s = at < item.end ? static_cast<double>(target[at]) : 0.0;
    const double y = at < item.end ? static_cast<double>(answer[at]) : 0.0;
    const double all = shared.all[i];
    const double mine = even ? bss_even(points, point) : bss_odd(points, point);
    const double values[kBssEnergies] = {s,          y - s, mine - s, mine,
                                         all - mine, all,   y - all,  y - mine};
    SF_UNROLL
    for (int e = 0; e < kBssEnergies; ++e) {
      sums[e] += values[e] * values[e];
    }
  }
  SF_UNROLL
  for (int e = 0; e < kBssEnergies; ++e) {
    const double sum = warp_sum(sums[e]);
    if (self % kWarpLanes == 0) {
      shared.sums[self / kWarpLanes][e] = sum;
    }
  }
  __syncthreads();
  if (self < kBssEnergies) {
    double sum = 0;
    for (const auto& warp : shared.sums) {
      sum += warp[self];
    }
    p.parts[((p.first_item + blockIdx.x) * p.signals.q + estimate) * kBssEnergies + self] = sum;
  }
}

}  // namespace

void bss_frame_energies(const ExecutionContext& ctx, const BssSignals& signals,
                        const BssComplex* roots, const BssFilters& filters, const BssFrames& frames,
                        double* parts) {
  WorkspaceScope scope(ctx.workspace());
  const int64_t items = frames.items(signals);
  const int64_t at_once = std::min(items, kBssSpectraAtOnce / signals.p);
  FrameParameters p = {.signals = signals,
                       .frames = frames,
                       .roots = roots,
                       .first_item = 0,
                       .spectra = scope.take<BssComplex>(at_once * signals.p * kBssBins),
                       .filters = filters,
                       .parts = parts};
  for (; p.first_item < items; p.first_item += at_once) {
    const unsigned count = grid_size(std::min(at_once, items - p.first_item));
    launch(ctx,
           {.kernel = "bss_frame_spectra_kernel",
            .grid = {count, grid_size(signals.p)},
            .block = kBssFftThreads},
           bss_frame_spectra_kernel, p);
    launch(ctx,
           {.kernel = "bss_frame_energies_kernel",
            .grid = {count, grid_size(signals.q)},
            .block = kBssFftThreads,
            .dynamic_shared_bytes = sizeof(EnergyStorage)},
           bss_frame_energies_kernel, p);
  }
}

}  // namespace stemfabric::cuda
