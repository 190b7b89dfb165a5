#include "kernels/bss_eval/bss_eval_cuda.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/bss_eval/bss_signals.cuh"
#include "kernels/common/block_reduce.cuh"
#include "runtime/memory/buffer.h"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSamples = 4;  // of a thread between two votes
constexpr int kMeasures = 4;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
static_assert(kThreads / kWarpLanes == kBssEnergies);

enum Side : int { kReferences, kEstimates, kSides };

struct SilenceParameters {
  struct Signals {
    const float* data;
    int64_t source_stride, channel_stride;
  };
  Signals side[kSides];
  int sources, channels;
  BssFrames frames;
  int64_t length;
  uint8_t* silent;   // [kSides, S]: from beginning to end
  uint8_t* zero;     // [S]: references of which no channel holds anything
  uint8_t* dropped;  // [frames]
  uint8_t* out;      // as `silent`, or null

  // Do the channels add up to something, or does one of them hold anything?
  __device__ __forceinline__ bool sounds(int which, int source, int64_t t) const {
    const float* x = side[which].data + source * side[which].source_stride + t;
    double sum = 0;
    for (int c = 0; c < channels; ++c) {
      sum += static_cast<double>(x[c * side[which].channel_stride]);
    }
    return sum != 0;
  }
  __device__ __forceinline__ bool holds(int which, int source, int64_t t) const {
    const float* x = side[which].data + source * side[which].source_stride + t;
    bool any = false;
    for (int c = 0; c < channels; ++c) {
      any = any || x[c * side[which].channel_stride] != 0;
    }
    return any;
  }
};

// Is there a sample in [begin, end) that `found` says yes to? All threads of the block ask.
template <typename Found>
__device__ __forceinline__ bool any_sample(int64_t begin, int64_t end, const Found& found) {
  for (int64_t first = begin; first < end; first += int64_t{kThreads} * kSamples) {
    bool mine = false;
    SF_UNROLL
    for (int r = 0; r < kSamples; ++r) {
      const int64_t t = first + threadIdx.x + r * kThreads;
      mine = (t < end && found(t)) || mine;
    }
    if (__syncthreads_or(mine ? 1 : 0) != 0) {
      return true;
    }
  }
  return false;
}

__global__ void __launch_bounds__(kThreads) bss_silence_kernel(SilenceParameters p) {
  const int source = static_cast<int>(blockIdx.x) % p.sources;
  const int side = static_cast<int>(blockIdx.x) / p.sources;
  const bool silent =
      !any_sample(0, p.length, [&](int64_t t) { return p.sounds(side, source, t); });
  const bool zero =
      silent && !any_sample(0, p.length, [&](int64_t t) { return p.holds(side, source, t); });
  if (threadIdx.x == 0) {
    p.silent[blockIdx.x] = silent ? 1 : 0;
    if (p.out != nullptr) {
      p.out[blockIdx.x] = silent ? 1 : 0;
    }
    if (side == kReferences) {
      p.zero[source] = zero ? 1 : 0;
    }
  }
}

// A frame in which a signal is silent that is not silent throughout.
__global__ void __launch_bounds__(kThreads) bss_dropped_frames_kernel(SilenceParameters p) {
  const int64_t begin = blockIdx.x * p.frames.hop;
  const int64_t end = begin + p.frames.window;
  bool dropped = false;
  for (int i = 0; i < kSides * p.sources && !dropped; ++i) {
    dropped = p.silent[i] == 0 && !any_sample(begin, end, [&](int64_t t) {
                return p.sounds(i / p.sources, i % p.sources, t);
              });
  }
  if (threadIdx.x == 0) {
    p.dropped[blockIdx.x] = dropped ? 1 : 0;
  }
}

struct MeasureParameters {
  BssSignals signals;
  BssFrames frames;
  int sources;
  int place[kMaxBssSignals];  // among the scored sources; −1: not scored
  const double* parts;        // see bss_frame_energies
  double* out;                // [kMeasures, S, frames]
  double* whole;              // [kMeasures + 1, S]
};

__device__ __forceinline__ double decibel(double numerator, double denominator) {
  return denominator == 0 ? kInfinity : 10 * log10(numerator / denominator);
}

struct MeasureStorage {
  double energies[kBssEnergies];
};

// A frame of a source; each warp adds up one of its energies.
__global__ void __launch_bounds__(kThreads) bss_measures_kernel(MeasureParameters p) {
  auto& e = shared_storage<MeasureStorage>().energies;
  const int64_t frame = blockIdx.x;
  const auto source = static_cast<int>(blockIdx.y);
  const bool whole = frame == p.frames.count;
  const int place = p.place[source];
  double values[kMeasures + 1];
  for (double& value : values) {
    value = kUndefined;
  }
  if (place >= 0 && (whole || p.frames.dropped[frame] == 0)) {
    const int channels = p.signals.channels;
    const auto energy = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int64_t first = p.frames.first(p.signals, frame);
    const int64_t items = p.frames.blocks(p.signals, whole ? p.signals.length : p.frames.window);
    double sum = 0;
    for (int64_t i = threadIdx.x % kWarpLanes; i < items * channels; i += kWarpLanes) {
      const int64_t estimate = place * channels + i % channels;
      sum += p.parts[((first + i / channels) * p.signals.q + estimate) * kBssEnergies + energy];
    }
    sum = warp_sum(sum);
    if (threadIdx.x % kWarpLanes == 0) {
      e[energy] = sum;
    }
    __syncthreads();
    values[0] = decibel(e[kBssTarget], e[kBssError]);
    values[1] = decibel(e[kBssTarget], e[kBssSpatial]);
    values[2] = decibel(e[kBssOwn], e[kBssInterference]);
    values[3] = decibel(e[kBssAll], e[kBssArtefacts]);
    values[4] = decibel(e[kBssOwn], e[kBssOwnError]);
  }
  if (threadIdx.x != 0) {
    return;
  }
  for (int m = 0; m < (whole ? kMeasures + 1 : kMeasures); ++m) {
    const int64_t row = int64_t{m} * p.sources + source;
    (whole ? p.whole[row] : p.out[row * p.frames.count + frame]) = values[m];
  }
}

// What the host has to know of the signals before it can say what is to be done.
class Choice {
 public:
  Choice(const ExecutionContext& ctx, const SilenceParameters& p, int64_t length, int64_t taps)
      : memory_(ctx.staging(), static_cast<std::size_t>((kSides + 1) * p.sources),
                "bss_eval: silence") {
    auto* flags = static_cast<uint8_t*>(memory_.data());
    ctx.stream().copy(flags, p.silent, memory_.bytes());  // `zero` lies behind `silent`
    ctx.stream().synchronize();
    signals.channels = p.channels;
    signals.taps = static_cast<int>(taps);
    signals.length = length;
    for (int s = 0; s < p.sources; ++s) {
      place[s] = -1;
      if (flags[kSides * p.sources + s] != 0) {
        continue;
      }
      if (flags[s] == 0 && flags[p.sources + s] == 0) {
        place[s] = signals.scored();
        signals.own[place[s]] = signals.p;
        add(p.side[kEstimates], s, signals.estimates, signals.q);
      }
      add(p.side[kReferences], s, signals.references, signals.p);
    }
  }
  BssSignals signals;
  int place[kMaxBssSignals] = {};

 private:
  void add(const SilenceParameters::Signals& from, int source, const float** to, int& count) const {
    for (int c = 0; c < signals.channels; ++c) {
      to[count++] = from.data + source * from.source_stride + c * from.channel_stride;
    }
  }
  Buffer memory_;
};

SilenceParameters::Signals signals_of(const ConstTensorView& view) {
  return {
      .data = view.as<float>(), .source_stride = view.stride(0), .channel_stride = view.stride(1)};
}

void measure(const ExecutionContext& ctx, const BssSignals& signals, const BssFrames& frames,
             double* parts) {
  WorkspaceScope scope(ctx.workspace());
  const BssComplex* roots = bss_roots(ctx, scope);
  const BssFilters filters = {
      .all = scope.take<BssComplex>(int64_t{signals.q} * signals.p * kBssBins),
      .own = scope.take<BssComplex>(int64_t{signals.q} * signals.channels * kBssBins)};
  bss_projection_filters(ctx, signals, roots, filters);
  bss_frame_energies(ctx, signals, roots, filters, frames, parts);
}

}  // namespace

void bss_eval(const ExecutionContext& ctx, const BssEvalArgs& args) {
  WorkspaceScope scope(ctx.workspace());
  const auto sources = static_cast<int>(args.references.dim(0));
  const int64_t length = args.references.dim(2);
  const int64_t count = args.frames ? args.frames.dim(2) : 0;
  auto* silent = scope.take<uint8_t>((kSides + 1) * sources);
  auto* dropped = scope.take<uint8_t>(count);
  const BssFrames frames = {.count = count,
                            .window = std::min(args.window, length),
                            .hop = args.hop,
                            .whole = static_cast<bool>(args.whole),
                            .dropped = dropped};
  const SilenceParameters silence = {
      .side = {signals_of(args.references), signals_of(args.estimates)},
      .sources = sources,
      .channels = static_cast<int>(args.references.dim(1)),
      .frames = frames,
      .length = length,
      .silent = silent,
      .zero = silent + kSides * sources,
      .dropped = dropped,
      .out = args.silent ? args.silent.as<uint8_t>() : nullptr};
  launch(ctx,
         {.kernel = "bss_silence_kernel", .grid = grid_size(kSides * sources), .block = kThreads},
         bss_silence_kernel, silence);
  launch(ctx, {.kernel = "bss_dropped_frames_kernel", .grid = grid_size(count), .block = kThreads},
         bss_dropped_frames_kernel, silence);
  const Choice choice(ctx, silence, length, args.taps);
  const int64_t items = choice.signals.q == 0 ? 0 : frames.items(choice.signals);
  auto* parts = scope.take<double>(items * choice.signals.q * kBssEnergies);
  if (items > 0) {
    measure(ctx, choice.signals, frames, parts);
  }
  MeasureParameters p = {.signals = choice.signals,
                         .frames = frames,
                         .sources = sources,
                         .place = {},
                         .parts = parts,
                         .out = args.frames ? args.frames.as<double>() : nullptr,
                         .whole = args.whole ? args.whole.as<double>() : nullptr};
  std::copy_n(choice.place, sources, p.place);
  launch(ctx,
         {.kernel = "bss_measures_kernel",
          .grid = {grid_size(count + (frames.whole ? 1 : 0)), grid_size(sources)},
          .block = kThreads},
         bss_measures_kernel, p);
}

}  // namespace stemfabric::cuda
