// Bound by memory: 8 bytes per element (bf16: 4), touched once. A thread owns one position and as
// many pairs as 16 bytes hold, or one, whose angles it forms once and then uses for several rows
// (batch entries and heads), four rows under way at a time. No table of angles: a second launch
// would cost more than the arithmetic that it saves, which is some 30 operations in float64 per
// pair and thread.
//
// The angle, in half turns, is formed in float64 and reduced to at most an eighth of a turn before
// it is rounded to float32, so that no error of t · frequency enters however long the sequence is.
#include "kernels/rotary/rotary_cuda.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/element.h"
#include "kernels/common/vector.cuh"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBatch = 4;          // rows under way at once
constexpr int64_t kLeastRows = 8;  // of a thread, which share its angles
constexpr int64_t kMostGridRows = 65535;

template <typename T>
struct Rotary {
  T* x;
  int64_t batch_stride, token_stride, head_stride;
  int64_t tokens, heads, pairs;
  int64_t rows, rows_per_thread;  // rows: batch entries × heads
  double log2_base;
  bool inverse;
};

struct Turn {
  float cosine, sine;
};

// The turn of a pair at a position.
template <typename T>
__device__ __forceinline__ Turn turn_at(const Rotary<T>& p, int64_t token, int64_t pair) {
  constexpr double kOneOverPi = 0.318309886183790671538;
  const double frequency =
      exp2(-p.log2_base * static_cast<double>(pair) / static_cast<double>(p.pairs));
  const double half_turns = static_cast<double>(token) * (frequency * kOneOverPi);
  const double quarters = rint(2 * half_turns);
  float s;
  float c;
  sincospif(static_cast<float>(half_turns - 0.5 * quarters), &s, &c);
  const auto quarter = static_cast<int64_t>(quarters) & 3;
  const Turn turned = quarter == 0   ? Turn{c, s}
                      : quarter == 1 ? Turn{-s, c}
                      : quarter == 2 ? Turn{-c, -s}
                                     : Turn{s, -c};
  return {turned.cosine, p.inverse ? -turned.sine : turned.sine};
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) rotary_kernel(Rotary<T> p) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t per_token = p.pairs / kWidth;
  const int64_t token = index / per_token;
  if (token >= p.tokens) {
    return;
  }
  const int64_t pair = index % per_token * kWidth;
  Turn turn[kWidth];
  for (int k = 0; k < kWidth; ++k) {
    turn[k] = turn_at(p, token, pair + k);
  }
  T* x = p.x + token * p.token_stride + pair;
  const int64_t first = blockIdx.y * p.rows_per_thread;
  const int64_t end = min(p.rows, first + p.rows_per_thread);
  int64_t batch = first / p.heads;
  int64_t head = first % p.heads;
  for (int64_t begin = first; begin < end; begin += kBatch) {
    T* at[kBatch];
    FloatVector<kWidth> low[kBatch];
    FloatVector<kWidth> high[kBatch];
    for (int r = 0; r < kBatch; ++r) {
      if (begin + r < end) {
        at[r] = x + batch * p.batch_stride + head * p.head_stride;
        low[r] = load_vector<kWidth>(at[r]);
        high[r] = load_vector<kWidth>(at[r] + p.pairs);
        const bool last_head = ++head == p.heads;
        head = last_head ? 0 : head;
        batch += last_head ? 1 : 0;
      }
    }
    for (int r = 0; r < kBatch; ++r) {
      if (begin + r < end) {
        for (int k = 0; k < kWidth; ++k) {
          const float a = low[r].lane[k];
          const float b = high[r].lane[k];
          low[r].lane[k] = a * turn[k].cosine - b * turn[k].sine;
          high[r].lane[k] = a * turn[k].sine + b * turn[k].cosine;
        }
        store_vector(at[r], low[r]);
        store_vector(at[r] + p.pairs, high[r]);
      }
    }
  }
}

template <typename T>
void run(const ExecutionContext& ctx, const RotaryArgs& args) {
  const TensorView& x = args.x;
  const int64_t rows = x.dim(0) * x.dim(2);
  const Rotary<T> p = {.x = x.as<T>(),
                       .batch_stride = x.stride(0),
                       .token_stride = x.stride(1),
                       .head_stride = x.stride(2),
                       .tokens = x.dim(1),
                       .heads = x.dim(2),
                       .pairs = x.dim(3) / 2,
                       .rows = rows,
                       .rows_per_thread = std::max(kLeastRows, ceil_div(rows, kMostGridRows)),
                       .log2_base = std::log2(args.base),
                       .inverse = args.inverse};
  constexpr int kWide = kVectorOf<T>;
  const bool wide = aligned_for<kWide>(p.x) && p.pairs % kWide == 0 &&
                    p.batch_stride % kWide == 0 && p.token_stride % kWide == 0 &&
                    p.head_stride % kWide == 0;
  const int64_t threads = p.tokens * (p.pairs / (wide ? kWide : 1));
  launch(ctx,
         {.kernel = "rotary_kernel",
          .grid = {grid_size(ceil_div(threads, kThreads)),
                   grid_size(ceil_div(rows, p.rows_per_thread))},
          .block = kThreads},
         wide ? rotary_kernel<T, kWide> : rotary_kernel<T, 1>, p);
}

}  // namespace

void rotary(const ExecutionContext& ctx, const RotaryArgs& args) {
  if (args.x.elements() > 0) {
    with_element(args.x.dtype(), [&]<typename T>() { run<T>(ctx, args); });
  }
}

}  // namespace stemfabric::cuda
