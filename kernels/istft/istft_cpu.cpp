// A task is a segment of the signal, of one or two channels: it adds up all frames that reach into
// it, in order, so that nothing depends on which task comes when. Frames at the seams are
// transformed twice; segments are long enough for that to cost little.
//
// Two channels share a transform: Z[k] = L[k] + i·R[k], Z[n−k] = L̄[k] + i·R̄[k] is that of
// left + i·right. The inverse is the forward transform with real and imaginary parts exchanged, on
// both sides.
#include "kernels/istft/istft_cpu.h"

#include "kernels/common/fft_scratch.h"
#include "kernels/common/parallel_for.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/istft/istft_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/common/fft_simd-inl.h"

#ifndef SF_KERNELS_ISTFT_CPU_TYPES
#define SF_KERNELS_ISTFT_CPU_TYPES
namespace stemfabric::cpu {

// Sums over frames, of one segment.
struct Overlap {
  float *left, *right, *squares;  // w · left, w · right, w²
};

}  // namespace stemfabric::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {

// The transform of left + i·right from their spectra, with real and imaginary parts exchanged.
HWY_INLINE void pack_spectra(int n, const float* HWY_RESTRICT left, const float* HWY_RESTRICT right,
                             const SplitComplex& z) {
  const FloatTag d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int k = 0; k < n / 2; k += lanes) {
    ComplexVec<hn::Vec<FloatTag>> l, r;
    hn::LoadInterleaved2(d, left + 2 * k, l.re, l.im);
    hn::LoadInterleaved2(d, right + 2 * k, r.re, r.im);
    hn::StoreU(hn::Sub(l.re, r.im), d, z.im + k);
    hn::StoreU(hn::Add(l.im, r.re), d, z.re + k);
    // k = 0 writes one element behind the end.
    const int mirror = n - k - lanes + 1;
    hn::StoreU(hn::Reverse(d, hn::Add(l.re, r.im)), d, z.im + mirror);
    hn::StoreU(hn::Reverse(d, hn::Sub(r.re, l.im)), d, z.re + mirror);
  }
  z.im[0] = left[0];
  z.re[0] = right[0];
  z.im[n / 2] = left[n];
  z.re[n / 2] = right[n];
}

// Adds samples [begin, end) of a frame to the sums, the first one at sums[0].
void istft_frame(const FftTables& tables, const FftScratch& scratch, const float* left,
                 const float* right, int begin, int end, const cpu::Overlap& sums) {
  const int n = tables.n;
  // The input lies in the pair that the first step does not write.
  const SplitComplex packed = scratch.second;
  pack_spectra(n, left, right, packed);
  const SplitComplex z =
      fft(tables, scratch, [&](auto d, int i) HWY_ATTR { return load_complex(d, packed, i); });
  const float* HWY_RESTRICT window = tables.window.data();
  for_lanes(end - begin, [&](auto d, int64_t i) HWY_ATTR {
    const auto w = hn::LoadU(d, window + begin + i);
    const auto add = [&](float* sum, const auto& term) HWY_ATTR {
      hn::StoreU(hn::MulAdd(w, term, hn::LoadU(d, sum + i)), d, sum + i);
    };
    add(sums.left, hn::LoadU(d, z.im + begin + i));
    add(sums.right, hn::LoadU(d, z.re + begin + i));
    add(sums.squares, w);
  });
}

// to = sum / (n · squares).
void istft_normalize(float n, const float* HWY_RESTRICT sum, const float* HWY_RESTRICT squares,
                     float* HWY_RESTRICT to, int64_t samples) {
  for_lanes(samples, [&](auto d, int64_t i) HWY_ATTR {
    const auto below = hn::Mul(hn::Set(d, n), hn::LoadU(d, squares + i));
    hn::StoreU(hn::Div(hn::LoadU(d, sum + i), below), d, to + i);
  });
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(istft_frame);
HWY_EXPORT(istft_normalize);
}  // namespace stemfabric

namespace stemfabric::cpu {
namespace {

constexpr int64_t kSegmentFrames = 8;  // in units of n_fft samples

struct Segment {
  int64_t b, c;        // sample of the batch, first channel
  int64_t begin, end;  // samples of the signal
};

void add_frames(const IstftArgs& args, const Segment& at, const FftScratch& scratch,
                const Overlap& sums) {
  const FftTables& tables = fft_tables(args.n_fft);
  const ConstTensorView& spectra = args.spectra;
  const int64_t other = at.c + 1 < spectra.dim(1) ? spectra.stride(1) : 0;
  const int64_t half = args.n_fft / 2;
  const float* channel = spectra.as<float>() + at.b * spectra.stride(0) + at.c * spectra.stride(1);
  // Frame t reaches from t·hop − half to t·hop + half.
  const int64_t first = std::max<int64_t>(0, (at.begin - half) / args.hop_length);
  const int64_t last = std::min(spectra.dim(2) - 1, (at.end - 1 + half) / args.hop_length);
  for (int64_t t = first; t <= last; ++t) {
    const int64_t start = t * args.hop_length - half;
    const int64_t begin = std::max(at.begin, start);
    const int64_t end = std::min(at.end, start + args.n_fft);
    if (begin < end) {
      const float* left = channel + t * spectra.stride(2);
      const int64_t skip = begin - at.begin;
      HWY_DYNAMIC_DISPATCH(istft_frame)
      (tables, scratch, left, left + other, static_cast<int>(begin - start),
       static_cast<int>(end - start), {sums.left + skip, sums.right + skip, sums.squares + skip});
    }
  }
}

void write_segment(const IstftArgs& args, const Segment& at, const Overlap& sums) {
  const TensorView& signal = args.signal;
  float* to = signal.as<float>() + at.b * signal.stride(0) + at.c * signal.stride(1) + at.begin;
  const auto n = static_cast<float>(args.n_fft);
  HWY_DYNAMIC_DISPATCH(istft_normalize)(n, sums.left, sums.squares, to, at.end - at.begin);
  if (at.c + 1 < signal.dim(1)) {
    HWY_DYNAMIC_DISPATCH(istft_normalize)
    (n, sums.right, sums.squares, to + signal.stride(1), at.end - at.begin);
  }
}

}  // namespace

void istft(const ExecutionContext& ctx, const IstftArgs& args) {
  const int64_t channels = args.signal.dim(1);
  const int64_t samples = args.signal.dim(2);
  const int64_t pairs = (channels + 1) / 2;
  const int64_t length = std::min(samples, kSegmentFrames * args.n_fft);
  const int64_t segments = (samples + length - 1) / length;
  const int64_t tasks = args.signal.dim(0) * pairs * segments;

  WorkspaceScope scope(ctx.workspace());
  const int64_t floats = 3 * length + FftScratch::floats(args.n_fft);
  auto* memory = scope.take<float>(scratch_slots(ctx, tasks) * floats);
  parallel_tasks(ctx, tasks, [&](int64_t task, int64_t slot) {
    float* own = memory + slot * floats;
    const Overlap sums = {own, own + length, own + 2 * length};
    const int64_t begin = task % segments * length;
    const Segment at = {.b = task / segments / pairs,
                        .c = task / segments % pairs * 2,
                        .begin = begin,
                        .end = std::min(samples, begin + length)};
    std::fill_n(own, 3 * length, 0.0f);
    add_frames(args, at, FftScratch::in(own + 3 * length, args.n_fft), sums);
    write_segment(args, at, sums);
  });
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
