// Bound by memory: a loss reads every target once (8 bytes per element), the mixture once from
// memory and once per stem from the L2 cache, for the blocks of a frame's stems are neighbours in
// the grid; outputs and their gradient are a few percent of that.
//
// A block takes one frame of one stem and one of its masks after another: bands to shared memory;
// bins, each by one thread, with all channels that the mask is for, gradients of the mask to shared
// memory; then the gradients of the bins around a band's centre are added up by eight threads. No
// atomics: every sum has a fixed order. The launch depends on shapes, not on whether a gradient is
// wanted. The elements' sums are float64: of a thread, of a block in a fixed tree, then of a stem's
// frames by one block.
#include "kernels/common/block_reduce.cuh"
#include "kernels/stem_mask/mask_math.cuh"
#include "kernels/stem_mask/stem_mask_cuda.h"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBandThreads = 8;  // that add up the gradient of a band
constexpr int kGroups = kThreads / kBandThreads;
// Of mask_apply and mask_loss that a multiprocessor is to hold. Left to itself, the compiler stays
// at 40 or 48 registers and spills around the slow paths of division and square root.
constexpr int kBlocks = 4;

struct MaskTable {
  const int* band;        // [K]
  const float* fraction;  // [K]
  const int* first_bin;   // [bands]
};

// Sizes and what the blocks of mask_apply and mask_loss share. The grid is [frames, stems], flat.
struct Frames {
  MaskLayout layout;
  MaskTable table;
  int stems, frames;  // frames of a sample
};
struct FramePosition {
  int s, b, t;
};
__device__ __forceinline__ FramePosition frame_position(const Frames& f) {
  const int block = static_cast<int>(blockIdx.x);
  const int frame = block / f.stems;
  return {block % f.stems, frame / f.frames, frame % f.frames};
}

// [S, B, T, O]
template <typename T>
struct OutputRows {
  T* data = nullptr;
  int64_t stride_s = 0, stride_b = 0, stride_t = 0;

  __device__ __forceinline__ T* at(const FramePosition& p) const {
    return data + p.s * stride_s + p.b * stride_b + p.t * stride_t;
  }
};
template <bool kConst>
auto rows_of(const BasicTensorView<kConst>& view) {
  using Element = typename BasicTensorView<kConst>::template Element<float>;
  return view ? OutputRows<Element>{view.template as<float>(), view.stride(0), view.stride(1),
                                    view.stride(2)}
              : OutputRows<Element>{};
}

// [S, B, T, O] of float32 or bf16, to be written.
struct GradientRows {
  void* data = nullptr;
  bool bf16 = false;
  int64_t stride_s = 0, stride_b = 0, stride_t = 0;

  __device__ __forceinline__ void store(const FramePosition& p, int output, float value) const {
    const int64_t i = p.s * stride_s + p.b * stride_b + p.t * stride_t + output;
    if (bf16) {
      static_cast<Bf16*>(data)[i] = to_bf16(value);
    } else {
      static_cast<float*>(data)[i] = value;
    }
  }
};
GradientRows gradient_rows_of(const TensorView& view) {
  return view ? GradientRows{view.data(), view.dtype() == DType::kBF16, view.stride(0),
                             view.stride(1), view.stride(2)}
              : GradientRows{};
}

// [S, B, C, T, K, 2]; the mixture has no stems.
template <typename T>
struct Spectra {
  T* data = nullptr;
  int64_t stride_s = 0, stride_b = 0, stride_c = 0, stride_t = 0;

  __device__ __forceinline__ T* at(const FramePosition& p, int c) const {
    return data + p.s * stride_s + p.b * stride_b + c * stride_c + p.t * stride_t;
  }
  // May the two parts of every element be read at once?
  bool pairs() const {
    return reinterpret_cast<uintptr_t>(data) % (2 * sizeof(T)) == 0 && stride_s % 2 == 0 &&
           stride_b % 2 == 0 && stride_c % 2 == 0 && stride_t % 2 == 0;
  }
};
template <bool kConst>
auto spectra_of(const BasicTensorView<kConst>& view) {
  using Element = typename BasicTensorView<kConst>::template Element<float>;
  const bool stems = view.rank() == 6;
  const int b = stems ? 1 : 0;
  return Spectra<Element>{view.template as<float>(), stems ? view.stride(0) : 0, view.stride(b),
                          view.stride(b + 1), view.stride(b + 2)};
}

template <typename Args>
Frames frames_of(const Args& args) {
  return {.layout = mask_layout(args),
          .table = {args.band.template as<int32_t>(), args.fraction.template as<float>(),
                    args.first_bin.template as<int32_t>()},
          .stems = static_cast<int>(args.prediction.dim(0)),
          .frames = static_cast<int>(args.prediction.dim(2))};
}
template <typename Args>
unsigned frame_blocks(const Args& args) {
  return grid_size(args.prediction.dim(0) * args.prediction.dim(1) * args.prediction.dim(2));
}

// Shared memory of a block, for one mask at a time.
struct MaskMemory {
  float *value, *slope;  // [parts][bands]; the slope for a real mask only
  float* gradient;       // [parts][K], with respect to the mask
};
__device__ __forceinline__ MaskMemory mask_memory(const MaskLayout& layout) {
  auto* value = reinterpret_cast<float*>(dynamic_shared());
  float* slope = value + layout.parts * layout.bands;
  return {value, slope, layout.parts == 1 ? slope + layout.bands : slope};
}
std::size_t mask_memory_bytes(const MaskLayout& layout, bool gradient) {
  const int64_t bands = int64_t{2} * layout.bands;  // value and slope, or two parts of values
  const int64_t bins = gradient ? int64_t{layout.parts} * layout.bins : 0;
  return static_cast<std::size_t>(bands + bins) * sizeof(float);
}

template <int kParts>
__device__ __forceinline__ void load_bands(const float* outputs, int bands, const MaskMemory& to) {
  for (int i = static_cast<int>(threadIdx.x); i < kParts * bands; i += kThreads) {
    const MaskActivation a = mask_activation<kParts>(outputs[i]);
    to.value[i] = a.value;
    if constexpr (kParts == 1) {
      to.slope[i] = a.slope;
    }
  }
}

template <int kParts>
__device__ __forceinline__ Complex mask_at(const MaskTable& table, int bands, const float* value,
                                           int bin) {
  const int band = table.band[bin];
  const float fraction = table.fraction[bin];
  const auto between = [&](const float* a) {
    return fmaf(fraction, a[1], fmaf(-fraction, a[0], a[0]));
  };
  return {between(value + band), kParts == 2 ? between(value + bands + band) : 0.0f};
}

struct ApplyParameters {
  Frames frames;
  OutputRows<const float> prediction;
  Spectra<const float> mixture;
  Spectra<float> estimate;
};

template <int kParts, int kWidth>
__global__ void __launch_bounds__(kThreads, kBlocks) mask_apply_kernel(ApplyParameters p) {
  const MaskLayout& layout = p.frames.layout;
  const FramePosition at = frame_position(p.frames);
  const MaskMemory memory = mask_memory(layout);
  for (int mask = 0; mask < layout.masks(); ++mask) {
    __syncthreads();  // the mask before may still be read
    load_bands<kParts>(p.prediction.at(at) + mask * kParts * layout.bands, layout.bands, memory);
    __syncthreads();
    for (int k = static_cast<int>(threadIdx.x); k < layout.bins; k += kThreads) {
      const Complex m = mask_at<kParts>(p.frames.table, layout.bands, memory.value, k);
      for (int c = layout.first_channel(mask); c < layout.end_channel(mask); ++c) {
        const Complex x = load_complex<kWidth>(p.mixture.at(at, c) + 2 * k);
        store_complex<kWidth>(p.estimate.at(at, c) + 2 * k, masked<kParts>(m, x));
      }
    }
  }
}

struct Presence {
  const uint8_t* stem;   // [B, S], or null
  const uint8_t* frame;  // [B, T], or null

  __device__ __forceinline__ bool operator()(int64_t stem_index, int64_t frame_index) const {
    return (stem == nullptr || stem[stem_index] != 0) &&
           (frame == nullptr || frame[frame_index] != 0);
  }
};
template <typename Args>
Presence presence_of(const Args& args) {
  return {args.presence ? args.presence.template as<uint8_t>() : nullptr,
          args.key_mask ? args.key_mask.template as<uint8_t>() : nullptr};
}

struct CountParameters {
  Presence present;
  int batch, frames;
  double frame_elements;
  double* count;  // [S]
};

// One block per stem.
__global__ void __launch_bounds__(kThreads) mask_count_kernel(CountParameters p) {
  const int s = static_cast<int>(blockIdx.x);
  int64_t frames = 0;
  for (int64_t i = threadIdx.x; i < int64_t{p.batch} * p.frames; i += kThreads) {
    frames += p.present(i / p.frames * gridDim.x + s, i) ? 1 : 0;
  }
  auto& sum = shared_storage<BlockSum<kThreads, int64_t>>();
  frames = sum(frames);
  if (threadIdx.x == 0) {
    p.count[s] += static_cast<double>(frames) * p.frame_elements;
  }
}

struct Sums {
  double loss, weighted;
};

struct LossParameters {
  Frames frames;
  MaskLossRule rule;
  OutputRows<const float> prediction;
  GradientRows gradient;
  Spectra<const float> mixture, target;
  Presence present;
  const float* weight;  // [B, S], or null
  const double* count;  // [S]
  Sums* parts;          // [S, frames of all samples]
};

// Σ element of this thread's bins of one mask's channels. The gradient of the mask, if it is
// wanted, goes to shared memory.
template <int kParts, MaskCompression kCompression, int kWidth>
__device__ __forceinline__ double loss_bins(const LossParameters& p, const FramePosition& at,
                                            int mask, const MaskMemory& memory) {
  const MaskLayout& layout = p.frames.layout;
  double sum = 0;
  for (int k = static_cast<int>(threadIdx.x); k < layout.bins; k += kThreads) {
    const Complex m = mask_at<kParts>(p.frames.table, layout.bands, memory.value, k);
    Complex total = {0, 0};
    for (int c = layout.first_channel(mask); c < layout.end_channel(mask); ++c) {
      const Complex x = load_complex<kWidth>(p.mixture.at(at, c) + 2 * k);
      const Complex target = load_complex<kWidth>(p.target.at(at, c) + 2 * k);
      const auto e = mask_element<kCompression>(masked<kParts>(m, x), target, p.rule);
      sum += static_cast<double>(e.loss);
      const Complex g = mask_gradient(e.gradient, x);
      total = {total.re + g.re, total.im + g.im};
    }
    if (p.gradient.data != nullptr) {
      memory.gradient[k] = total.re;
      if constexpr (kParts == 2) {
        memory.gradient[layout.bins + k] = total.im;
      }
    }
  }
  return sum;
}

// Writes the gradient of one mask's outputs: what the bins around a band's centre say, by share.
// Every thread takes as many rounds, since they shuffle.
template <int kParts>
__device__ __forceinline__ void gather_bands(const LossParameters& p, const FramePosition& at,
                                             int first_output, const MaskMemory& memory,
                                             float scale) {
  const MaskTable& table = p.frames.table;
  const int bands = p.frames.layout.bands;
  const int bins = p.frames.layout.bins;
  const int lane = static_cast<int>(threadIdx.x) % kBandThreads;
  const int group = static_cast<int>(threadIdx.x) / kBandThreads;
  for (int first = 0; first < kParts * bands; first += kGroups) {
    const int output = first + group;
    const bool inside = output < kParts * bands;
    float sum = 0;
    if (inside) {
      const int band = output % bands;
      const float* of_bins = memory.gradient + output / bands * bins;
      const int centre = table.first_bin[band];
      const int end = band + 1 < bands ? table.first_bin[band + 1] : bins;
      for (int k = (band > 0 ? table.first_bin[band - 1] : 0) + lane; k < end; k += kBandThreads) {
        const float fraction = table.fraction[k];
        sum += (k < centre ? fraction : 1 - fraction) * of_bins[k];
      }
    }
    sum = warp_sum<kBandThreads>(sum);
    if (inside && lane == 0) {
      p.gradient.store(at, first_output + output,
                       scale * (kParts == 1 ? memory.slope[output] : 1.0f) * sum);
    }
  }
}

struct SumsStorage {
  BlockSum<kThreads, double> loss, weighted;
};

template <int kParts, MaskCompression kCompression, int kWidth>
__global__ void __launch_bounds__(kThreads, kBlocks) mask_loss_kernel(LossParameters p) {
  const MaskLayout& layout = p.frames.layout;
  const FramePosition at = frame_position(p.frames);
  const int64_t stem = int64_t{at.b} * p.frames.stems + at.s;
  const int64_t frame = int64_t{at.b} * p.frames.frames + at.t;
  double sum = 0;
  const double weight = p.weight != nullptr ? static_cast<double>(p.weight[stem]) : 1.0;
  if (p.present(stem, frame)) {
    const double count = p.count[at.s];
    const auto scale = static_cast<float>(count > 0 ? weight / count : 0.0);
    const MaskMemory memory = mask_memory(layout);
    for (int mask = 0; mask < layout.masks(); ++mask) {
      const int first_output = mask * kParts * layout.bands;
      __syncthreads();  // the mask before may still be read
      load_bands<kParts>(p.prediction.at(at) + first_output, layout.bands, memory);
      __syncthreads();
      sum += loss_bins<kParts, kCompression, kWidth>(p, at, mask, memory);
      if (p.gradient.data != nullptr) {
        __syncthreads();
        gather_bands<kParts>(p, at, first_output, memory, scale);
      }
    }
  } else if (p.gradient.data != nullptr) {
    const int outputs = layout.masks() * kParts * layout.bands;
    for (int i = static_cast<int>(threadIdx.x); i < outputs; i += kThreads) {
      p.gradient.store(at, i, 0.0f);
    }
  }
  auto& block_sum = shared_storage<BlockSum<kThreads, double>>();
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    const int64_t frames = int64_t{gridDim.x} / p.frames.stems;
    p.parts[at.s * frames + frame] = {sum, weight * sum};
  }
}

// One block per stem.
__global__ void __launch_bounds__(kThreads)
    mask_loss_add_kernel(const Sums* parts, int64_t frames, const double* count, double* loss,
                         double* weighted) {
  const int s = static_cast<int>(blockIdx.x);
  Sums sums = {0, 0};
  for (int64_t i = threadIdx.x; i < frames; i += kThreads) {
    sums.loss += parts[s * frames + i].loss;
    sums.weighted += parts[s * frames + i].weighted;
  }
  auto& shared = shared_storage<SumsStorage>();
  sums.loss = shared.loss(sums.loss);
  sums.weighted = shared.weighted(sums.weighted);
  const double n = count[s];
  if (threadIdx.x == 0 && n > 0) {
    loss[s] += sums.loss / n;
    weighted[s] += sums.weighted / n;
  }
}

template <int kParts, int kWidth>
void launch_loss(const ExecutionContext& ctx, unsigned blocks, const LossParameters& p) {
  const LaunchConfig config = {.kernel = "mask_loss_kernel",
                               .grid = blocks,
                               .block = kThreads,
                               .dynamic_shared_bytes = mask_memory_bytes(p.frames.layout, true)};
  switch (p.rule.compression) {
    case MaskCompression::kNone:
      return launch(ctx, config, mask_loss_kernel<kParts, MaskCompression::kNone, kWidth>, p);
    case MaskCompression::kLinear:
      return launch(ctx, config, mask_loss_kernel<kParts, MaskCompression::kLinear, kWidth>, p);
    case MaskCompression::kRoot:
      return launch(ctx, config, mask_loss_kernel<kParts, MaskCompression::kRoot, kWidth>, p);
    case MaskCompression::kPower:
      return launch(ctx, config, mask_loss_kernel<kParts, MaskCompression::kPower, kWidth>, p);
  }
}

template <int kParts, int kWidth>
void launch_apply(const ExecutionContext& ctx, unsigned blocks, const ApplyParameters& p) {
  launch(ctx,
         {.kernel = "mask_apply_kernel",
          .grid = blocks,
          .block = kThreads,
          .dynamic_shared_bytes = mask_memory_bytes(p.frames.layout, false)},
         mask_apply_kernel<kParts, kWidth>, p);
}

}  // namespace

void mask_apply(const ExecutionContext& ctx, const MaskApplyArgs& args) {
  const ApplyParameters p = {.frames = frames_of(args),
                             .prediction = rows_of(args.prediction),
                             .mixture = spectra_of(args.mixture),
                             .estimate = spectra_of(args.estimate)};
  const bool pairs = p.mixture.pairs() && p.estimate.pairs();
  const bool complex = args.kind == MaskKind::kComplex;
  const auto apply = complex ? (pairs ? launch_apply<2, 2> : launch_apply<2, 1>)
                             : (pairs ? launch_apply<1, 2> : launch_apply<1, 1>);
  apply(ctx, frame_blocks(args), p);
}

void mask_count(const ExecutionContext& ctx, const MaskCountArgs& args) {
  const Shape& shape = args.shape;
  launch(ctx, {.kernel = "mask_count_kernel", .grid = grid_size(shape[0]), .block = kThreads},
         mask_count_kernel,
         {.present = presence_of(args),
          .batch = static_cast<int>(shape[1]),
          .frames = static_cast<int>(shape[3]),
          .frame_elements = static_cast<double>(shape[2] * shape[4]),
          .count = args.count.as<double>()});
}

void mask_loss(const ExecutionContext& ctx, const MaskLossArgs& args) {
  const int64_t frames = args.prediction.dim(1) * args.prediction.dim(2);
  LossParameters p = {.frames = frames_of(args),
                      .rule = mask_loss_rule(args),
                      .prediction = rows_of(args.prediction),
                      .gradient = gradient_rows_of(args.gradient),
                      .mixture = spectra_of(args.mixture),
                      .target = spectra_of(args.target),
                      .present = presence_of(args),
                      .weight = args.weight ? args.weight.as<float>() : nullptr,
                      .count = args.count.as<double>(),
                      .parts = nullptr};
  WorkspaceScope scope(ctx.workspace());
  p.parts = scope.take<Sums>(args.prediction.dim(0) * frames);
  const bool pairs = p.mixture.pairs() && p.target.pairs();
  const bool complex = args.kind == MaskKind::kComplex;
  const auto loss = complex ? (pairs ? launch_loss<2, 2> : launch_loss<2, 1>)
                            : (pairs ? launch_loss<1, 2> : launch_loss<1, 1>);
  loss(ctx, frame_blocks(args), p);
  launch(ctx,
         {.kernel = "mask_loss_add_kernel",
          .grid = grid_size(args.prediction.dim(0)),
          .block = kThreads},
         mask_loss_add_kernel, p.parts, frames, p.count, args.loss.as<double>(),
         args.weighted.as<double>());
}

}  // namespace stemfabric::cuda
