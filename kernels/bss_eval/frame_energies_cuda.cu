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

struct EnergyStorage {
  BssFftStorage fft;
  double sums[kWarps][kBssEnergies];
};

// The samples of a thread: points threadIdx.x, threadIdx.x + kBssFftThreads, …
struct Projection {
  // From `terms` references, spectra and filters kBssBins apart. All threads of the block call it.
  __device__ __forceinline__ Projection(BssComplex* points, const BssComplex* roots,
                                        const BssComplex* spectra, const BssComplex* filters,
                                        int terms) {
    bss_inverse(points, roots, [&](int bin) {
      BssComplex sum = {0, 0};
      for (int64_t t = 0; t < terms; ++t) {
        sum = sum + spectra[t * kBssBins + bin] * filters[t * kBssBins + bin];
      }
      return sum;
    });
    SF_UNROLL
    for (int r = 0; r < kBssThreadPoints; ++r) {
      const int point = static_cast<int>(threadIdx.x) + r * kBssFftThreads;
      samples[2 * r] = bss_even(points, point);
      samples[2 * r + 1] = bss_odd(points, point);
    }
    __syncthreads();  // `points` may be written again
  }
  double samples[2 * kBssThreadPoints];
};

__global__ void __launch_bounds__(kBssFftThreads) bss_frame_energies_kernel(FrameParameters p) {
  const Item item(p, p.first_item + blockIdx.x);
  if (item.dropped) {
    return;
  }
  auto& shared = shared_storage<EnergyStorage>();
  const auto estimate = static_cast<int>(blockIdx.y);
  const int channels = p.signals.channels;
  const int own = p.signals.own[estimate / channels];
  const BssComplex* spectra = p.spectra + int64_t{blockIdx.x} * p.signals.p * kBssBins;
  const Projection all(shared.fft.points, p.roots, spectra,
                       p.filters.all + int64_t{estimate} * p.signals.p * kBssBins, p.signals.p);
  const Projection mine(shared.fft.points, p.roots, spectra + int64_t{own} * kBssBins,
                        p.filters.own + int64_t{estimate} * channels * kBssBins, channels);

  const float* target = p.signals.references[own + estimate % channels];
  const float* answer = p.signals.estimates[estimate];
  double sums[kBssEnergies] = {};
  SF_UNROLL
  for (int r = 0; r < 2 * kBssThreadPoints; ++r) {
    const int t = 2 * (static_cast<int>(threadIdx.x) + r / 2 * kBssFftThreads) + r % 2;
    const int64_t output = t - (p.signals.taps - 1);
    if (output < 0 || output >= item.outputs) {
      continue;
    }
    const int64_t at = item.start + output;
    const double s = at < item.end ? static_cast<double>(target[at]) : 0.0;
    const double y = at < item.end ? static_cast<double>(answer[at]) : 0.0;
    const double values[kBssEnergies] = {s,
                                         y - s,
                                         mine.samples[r] - s,
                                         mine.samples[r],
                                         all.samples[r] - mine.samples[r],
                                         all.samples[r],
                                         y - all.samples[r],
                                         y - mine.samples[r]};
    SF_UNROLL
    for (int e = 0; e < kBssEnergies; ++e) {
      sums[e] += values[e] * values[e];
    }
  }
  const auto self = static_cast<int>(threadIdx.x);
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
            .block = kBssFftThreads},
           bss_frame_energies_kernel, p);
  }
}

}  // namespace stemfabric::cuda
