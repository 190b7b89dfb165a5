// Bound by memory: every byte of the rows is read and written once. A block copies a piece of one
// row, four words per thread; a word is 16 bytes where rows are and begin at multiples of it, else
// 4 or 1.
#include "kernels/common/launch.cuh"
#include "kernels/gather/gather_cuda.h"

namespace stemfabric::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 4;
constexpr int64_t kPiece = int64_t{kThreads} * kPerThread;

template <typename Word>
struct Rows {
  const Word* x;
  const int32_t* index;
  Word* y;
  int64_t table_rows, words;  // of a row
  int64_t pieces;             // of a row
};

__device__ __forceinline__ uint4 all_ones(const uint4&) { return {~0u, ~0u, ~0u, ~0u}; }
template <typename Word>
__device__ __forceinline__ Word all_ones(const Word&) {
  return static_cast<Word>(~Word{0});
}

template <typename Word>
__global__ void __launch_bounds__(kThreads) gather_kernel(Rows<Word> rows) {
  const int64_t i = int64_t{blockIdx.x} / rows.pieces;
  const int64_t first = int64_t{blockIdx.x} % rows.pieces * kPiece + threadIdx.x;
  const int32_t row = rows.index[i];
  const bool there = row >= 0 && row < rows.table_rows;
  for (int k = 0; k < kPerThread; ++k) {
    const int64_t word = first + k * kThreads;
    if (word < rows.words) {
      rows.y[i * rows.words + word] = there ? rows.x[row * rows.words + word] : all_ones(Word{});
    }
  }
}

template <typename Word>
void run(const ExecutionContext& ctx, const GatherArgs& args, int64_t row_bytes) {
  Rows<Word> rows = {static_cast<const Word*>(args.x.data()),
                     args.index.as<int32_t>(),
                     static_cast<Word*>(args.y.data()),
                     args.x.dim(0),
                     row_bytes / static_cast<int64_t>(sizeof(Word)),
                     0};
  rows.pieces = ceil_div(rows.words, kPiece);
  launch(ctx,
         {.kernel = "gather_kernel",
          .grid = grid_size(args.index.dim(0) * rows.pieces),
          .block = kThreads},
         gather_kernel<Word>, rows);
}

}  // namespace

void gather(const ExecutionContext& ctx, const GatherArgs& args) {
  if (args.y.elements() == 0) {
    return;
  }
  const int64_t row_bytes = static_cast<int64_t>(args.y.bytes()) / args.index.dim(0);
  const auto divides = [&](uintptr_t bytes) {
    return reinterpret_cast<uintptr_t>(args.x.data()) % bytes == 0 &&
           reinterpret_cast<uintptr_t>(args.y.data()) % bytes == 0 &&
           static_cast<uintptr_t>(row_bytes) % bytes == 0;
  };
  divides(16)  ? run<uint4>(ctx, args, row_bytes)
  : divides(4) ? run<uint32_t>(ctx, args, row_bytes)
               : run<uint8_t>(ctx, args, row_bytes);
}

}  // namespace stemfabric::cuda
