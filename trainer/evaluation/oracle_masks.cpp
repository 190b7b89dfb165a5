#include "trainer/evaluation/oracle_masks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <vector>

#include "kernels/common/parallel_for.h"
#include "kernels/istft/istft.h"
#include "kernels/stft/stft.h"
#include "runtime/core/check.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {
namespace {

constexpr int64_t kBlockWindows = 32;  // a block of the track is that many n_fft long
constexpr double kCovarianceLoad = 1e-8;

using Amplitude = std::complex<double>;
using Stereo = std::array<Amplitude, 2>;

// [a b; conj(b) d]
struct Hermitian {
  double a = 0, d = 0;
  Amplitude b = 0;

  double determinant() const { return a * d - std::norm(b); }
  void add(double factor, const Hermitian& other) {
    a += factor * other.a;
    d += factor * other.d;
    b += factor * other.b;
  }
  Stereo operator*(const Stereo& x) const {
    return {a * x[0] + b * x[1], std::conj(b) * x[0] + d * x[1]};
  }
  // The inverse times x.
  Stereo solve(const Stereo& x) const {
    const double scale = 1 / determinant();
    return {scale * (d * x[0] - b * x[1]), scale * (a * x[1] - std::conj(b) * x[0])};
  }
};
Hermitian outer_product(const Stereo& y, double factor) {
  return {factor * std::norm(y[0]), factor * std::norm(y[1]), factor * y[0] * std::conj(y[1])};
}

// A piece of the track: the samples [begin, end) that it is for, and those that are transformed,
// [from, to). The frames of the piece whose centres lie in [begin, end) are those of the track, and
// with the frames around them they make its samples.
struct Block {
  int64_t begin, end, from, to;
};
std::vector<Block> blocks_of(int64_t samples, int64_t n_fft) {
  const int64_t size = kBlockWindows * n_fft;
  // What is left at the end is never shorter than a window.
  const int64_t count = std::max<int64_t>(1, (samples - n_fft) / size + 1);
  std::vector<Block> blocks;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = i * size;
    const int64_t end = i + 1 < count ? begin + size : samples;
    blocks.push_back({begin, end, std::max<int64_t>(0, begin - n_fft),
                      i + 1 < count ? std::min(samples, end + n_fft) : samples});
  }
  return blocks;
}

// The spectra of one block: the stems', and as the last source what the mixture holds besides.
class Spectra {
 public:
  Spectra(const OracleMaskArgs& args, const std::vector<Block>& blocks)
      : args_(args),
        stems_(args.stems.dim(0)),
        channels_(args.stems.dim(1)),
        bins_(stft_bins(args.n_fft)) {
    int64_t longest = 0;
    for (const Block& block : blocks) {
      longest = std::max(longest, block.to - block.from);
    }
    const int64_t frames = stft_frames(longest, args.hop_length);
    mixture_ = Tensor({channels_ * frames * bins_ * 2}, DType::kF32);
    sources_ = Tensor({stems_ * channels_ * frames * bins_ * 2}, DType::kF32);
    signal_ = Tensor({stems_ * channels_ * longest}, DType::kF32);
  }

  void transform(const ExecutionContext& ctx, const Block& block) {
    block_ = block;
    frames_ = stft_frames(block.to - block.from, args_.hop_length);
    const int64_t length = block.to - block.from;
    const ConstTensorView mixture = args_.mixture.slice(1, block.from, length);
    stft(ctx, {.signal = ConstTensorView(mixture.data(), DType::kF32, {1, channels_, length},
                                         {0, mixture.stride(0), 1}),
               .n_fft = args_.n_fft,
               .hop_length = args_.hop_length,
               .spectra = view(mixture_, 1)});
    stft(ctx, {.signal = args_.stems.slice(2, block.from, length),
               .n_fft = args_.n_fft,
               .hop_length = args_.hop_length,
               .spectra = view(sources_, stems_)});
  }
  // What the spectra of the stems hold now, as samples [begin, end) of the estimates.
  void write_estimates(const ExecutionContext& ctx) {
    const int64_t length = block_.to - block_.from;
    const TensorView signal(signal_.as<float>(), DType::kF32, {stems_, channels_, length});
    istft(ctx, {.spectra = view(sources_, stems_),
                .n_fft = args_.n_fft,
                .hop_length = args_.hop_length,
                .signal = signal});
    for (int64_t i = 0; i < stems_ * channels_; ++i) {
      const float* first = signal_.as<float>() + i * length + block_.begin - block_.from;
      std::copy(first, first + (block_.end - block_.begin),
                args_.estimates.as<float>() + i / channels_ * args_.estimates.stride(0) +
                    i % channels_ * args_.estimates.stride(1) + block_.begin);
    }
  }

  int64_t stems() const { return stems_; }
  int64_t channels() const { return channels_; }
  int64_t bins() const { return bins_; }
  int64_t frames() const { return frames_; }
  // The frames whose centres lie in the block's own samples; at the track's end, all that are left.
  int64_t first_frame() const { return (block_.begin - block_.from) / args_.hop_length; }
  int64_t end_frame() const {
    return block_.to == block_.end ? frames_ : (block_.end - block_.from) / args_.hop_length;
  }

  Amplitude mixture(int64_t c, int64_t t, int64_t k) const {
    return value(mixture_.as<float>() + ((c * frames_ + t) * bins_ + k) * 2);
  }
  Amplitude stem(int64_t s, int64_t c, int64_t t, int64_t k) const {
    return value(sources_.as<float>() + index(s, c, t, k));
  }
  void set_stem(int64_t s, int64_t c, int64_t t, int64_t k, const Amplitude& x) {
    float* at = sources_.as<float>() + index(s, c, t, k);
    at[0] = static_cast<float>(x.real());
    at[1] = static_cast<float>(x.imag());
  }
  // What the mixture holds besides the stems.
  Amplitude remainder(int64_t c, int64_t t, int64_t k) const {
    Amplitude rest = mixture(c, t, k);
    for (int64_t s = 0; s < stems_; ++s) {
      rest -= stem(s, c, t, k);
    }
    return rest;
  }
  // Of a stereo track; source stems() is the remainder.
  Stereo source(int64_t i, int64_t t, int64_t k) const {
    return i < stems_ ? Stereo{stem(i, 0, t, k), stem(i, 1, t, k)}
                      : Stereo{remainder(0, t, k), remainder(1, t, k)};
  }

 private:
  static Amplitude value(const float* at) {
    return {static_cast<double>(at[0]), static_cast<double>(at[1])};
  }
  int64_t index(int64_t s, int64_t c, int64_t t, int64_t k) const {
    return (((s * channels_ + c) * frames_ + t) * bins_ + k) * 2;
  }
  TensorView view(Tensor& spectra, int64_t batch) const {
    return {spectra.as<float>(), DType::kF32, {batch, channels_, frames_, bins_, 2}};
  }

  const OracleMaskArgs& args_;
  int64_t stems_, channels_, bins_;
  int64_t frames_ = 0;
  Block block_{};
  Tensor mixture_, sources_, signal_;
};

// One frame: every stem's share of the magnitudes, or of the powers.
void mask_by_shares(Spectra& spectra, bool powers, int64_t t) {
  const auto size = [&](const Amplitude& y) { return powers ? std::norm(y) : std::sqrt(std::norm(y)); };
  for (int64_t c = 0; c < spectra.channels(); ++c) {
    for (int64_t k = 0; k < spectra.bins(); ++k) {
      double total = size(spectra.remainder(c, t, k));
      for (int64_t s = 0; s < spectra.stems(); ++s) {
        total += size(spectra.stem(s, c, t, k));
      }
      const Amplitude x = spectra.mixture(c, t, k);
      for (int64_t s = 0; s < spectra.stems(); ++s) {
        const double share = total > 0 ? size(spectra.stem(s, c, t, k)) / total : 0.0;
        spectra.set_stem(s, c, t, k, share * x);
      }
    }
  }
}

// R of every source and bin.
class SpatialCovariances {
 public:
  SpatialCovariances(int64_t sources, int64_t bins)
      : bins_(bins), matrices_(static_cast<std::size_t>(sources * bins)) {}

  Hermitian& at(int64_t source, int64_t k) {
    return matrices_[static_cast<std::size_t>(source * bins_ + k)];
  }
  // A, of the block's own frames; each bin in the order of the frames.
  void add_block(const ExecutionContext& ctx, const Spectra& spectra) {
    parallel_for(ctx, bins_, 64, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t i = 0; i <= spectra.stems(); ++i) {
        for (int64_t t = spectra.first_frame(); t < spectra.end_frame(); ++t) {
          for (int64_t k = begin; k < end; ++k) {
            const Stereo y = spectra.source(i, t, k);
            const double power = std::norm(y[0]) + std::norm(y[1]);
            if (power > 0) {
              at(i, k).add(1, outer_product(y, 1 / power));
            }
          }
        }
      }
    });
  }
  // R from A.
  void normalise() {
    for (Hermitian& matrix : matrices_) {
      const double trace = matrix.a + matrix.d;
      Hermitian r = {.a = kCovarianceLoad, .d = kCovarianceLoad};
      r.add(trace > 0 ? 2 / trace : 0.0, trace > 0 ? matrix : Hermitian{});
      matrix = trace > 0 ? r : Hermitian{.a = 1, .d = 1};
    }
  }

 private:
  int64_t bins_;
  std::vector<Hermitian> matrices_;
};

// Yᴴ R⁻¹ Y / 2
double source_power(const Hermitian& r, const Stereo& y) {
  const Stereo z = r.solve(y);
  return 0.5 * (std::conj(y[0]) * z[0] + std::conj(y[1]) * z[1]).real();
}

// One frame.
void filter_by_covariances(Spectra& spectra, SpatialCovariances& covariances, int64_t t,
                           std::vector<double>& powers) {
  const int64_t sources = spectra.stems() + 1;
  powers.resize(static_cast<std::size_t>(sources));
  for (int64_t k = 0; k < spectra.bins(); ++k) {
    Hermitian total;
    for (int64_t i = 0; i < sources; ++i) {
      double& power = powers[static_cast<std::size_t>(i)];
      power = source_power(covariances.at(i, k), spectra.source(i, t, k));
      total.add(power, covariances.at(i, k));
    }
    Stereo z = {0, 0};
    if (total.determinant() > 0) {
      z = total.solve({spectra.mixture(0, t, k), spectra.mixture(1, t, k)});
    }
    for (int64_t s = 0; s < spectra.stems(); ++s) {
      const Stereo y = covariances.at(s, k) * z;
      const double power = powers[static_cast<std::size_t>(s)];
      spectra.set_stem(s, 0, t, k, power * y[0]);
      spectra.set_stem(s, 1, t, k, power * y[1]);
    }
  }
}

void check_args(const ExecutionContext& ctx, const OracleMaskArgs& args) {
  const char* what = "oracle masks";
  check_tensor(what, "stems", args.stems, DType::kF32, {-1, -1, -1});
  const int64_t channels = args.stems.dim(1);
  const int64_t samples = args.stems.dim(2);
  check_tensor(what, "mixture", args.mixture, DType::kF32, {channels, samples});
  check_tensor(what, "estimates", args.estimates, DType::kF32,
               {args.stems.dim(0), channels, samples});
  SF_CHECK(channels == 1 || channels == 2, "{}: {} channels; there must be 1 or 2", what, channels);
  SF_CHECK(
      args.stems.stride(2) == 1 && args.mixture.stride(1) == 1 && args.estimates.stride(2) == 1,
      "{}: the last stride of stems, mixture and estimates must be 1", what);
  SF_CHECK(ctx.is_cpu(), "{}: made on the CPU, not on {}", what, ctx.device().to_string());
  if (samples <= args.n_fft / 2) {
    throw InputError(
        "oracle masks: a track of {} samples is too short for windows of {}; more "
        "than half a window is needed",
        samples, args.n_fft);
  }
}

}  // namespace

void separate_by_oracle_masks(const ExecutionContext& ctx, const OracleMaskArgs& args) {
  check_args(ctx, args);
  const std::vector<Block> blocks = blocks_of(args.stems.dim(2), args.n_fft);
  Spectra spectra(args, blocks);
  const bool wiener = args.mask == OracleMask::kWiener && spectra.channels() == 2;
  SpatialCovariances covariances(wiener ? spectra.stems() + 1 : 0, spectra.bins());
  if (wiener) {
    for (const Block& block : blocks) {
      spectra.transform(ctx, block);
      covariances.add_block(ctx, spectra);
    }
    covariances.normalise();
  }
  for (const Block& block : blocks) {
    spectra.transform(ctx, block);
    parallel_for(ctx, spectra.frames(), 1, [&](int64_t t, int64_t, int64_t) {
      if (wiener) {
        std::vector<double> powers;
        filter_by_covariances(spectra, covariances, t, powers);
      } else {
        mask_by_shares(spectra, args.mask != OracleMask::kRatio, t);
      }
    });
    spectra.write_estimates(ctx);
  }
}

}  // namespace stemfabric
