#include "kernels/linear/gemm.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include "kernels/linear/gemm_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/gemm_cpu.cpp"  // this file, once for each target
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

#include "kernels/linear/gemm_kernel-inl.h"

#if HWY_ONCE
namespace stemfabric {
namespace {

HWY_EXPORT(gemm_tile_shape);
HWY_EXPORT(gemm_pack_b);
HWY_EXPORT(gemm_multiply);

// Row panels of one task: its packed A (8 · 12 · kGemmBlockK floats) stays in the second-level
// cache while a panel of B is used from the first.
constexpr int64_t kRowPanels = 8;
constexpr int64_t kPackedBFloats = int64_t{1} << 20;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One buffer for each thread that may run tasks at the same time. Tasks do not know their thread,
// so they borrow whichever buffer is free.
class ScratchSlots {
 public:
  ScratchSlots(WorkspaceScope& scope, int slots, int64_t floats)
      : slots_(slots),
        floats_(floats),
        data_(scope.take<float>(slots * floats)),
        used_(scope.take<std::atomic<bool>>(slots)) {
    for (int i = 0; i < slots; ++i) {
      std::construct_at(used_ + i, false);
    }
  }

  template <typename Body>
  void borrow(Body&& body) {
    for (int i = 0;; i = (i + 1) % slots_) {
      if (!used_[i].exchange(true, std::memory_order_acquire)) {
        body(data_ + i * floats_);
        used_[i].store(false, std::memory_order_release);
        return;
      }
    }
  }

 private:
  int slots_;
  int64_t floats_;
  float* data_;
  std::atomic<bool>* used_;
};

// How tiles of C are shared out. Free to depend on the number of threads: see gemm.h.
struct Grid {
  int64_t row_panels, column_panels;
  int64_t row_blocks, column_blocks;

  Grid(int64_t rows, int64_t columns, int threads)
      : row_panels(rows), column_panels(columns), row_blocks(divide_up(rows, kRowPanels)) {
    if (row_blocks == 0) {
      column_blocks = 0;
      return;
    }
    // Few blocks are made a multiple of the number of threads, so that none is left over.
    if (row_blocks < 8 * threads) {
      row_blocks = std::min(row_panels, divide_up(row_blocks, threads) * threads);
    }
    column_blocks = std::min(column_panels, divide_up(threads, row_blocks));
  }
  int64_t tiles() const { return row_blocks * column_blocks; }
  GemmTile tile(int64_t i) const {
    const int64_t row = i / column_blocks;
    const int64_t column = i % column_blocks;
    return {row_panels * row / row_blocks, row_panels * (row + 1) / row_blocks,
            column_panels * column / column_blocks, column_panels * (column + 1) / column_blocks};
  }
};

}  // namespace

void gemm(const ExecutionContext& ctx, const GemmArgs& args) {
  SF_CHECK(args.b_column_sum == nullptr || !args.b.transposed, "column sums of a transposed B");
  if (args.n == 0) {
    return;
  }
  int64_t tile_rows = 0;
  int64_t tile_columns = 0;
  HWY_DYNAMIC_DISPATCH(gemm_tile_shape)(&tile_rows, &tile_columns);
  ThreadPool& threads = ctx.threads();
  const Grid grid(divide_up(args.m, tile_rows), divide_up(args.n, tile_columns), threads.threads());

  const int64_t padded_n = grid.column_panels * tile_columns;
  const int64_t blocks_of_k = std::max<int64_t>(1, kPackedBFloats / (padded_n * kGemmBlockK));
  const int64_t super_k = std::min(args.k, blocks_of_k * kGemmBlockK);
  WorkspaceScope scope(ctx.workspace());
  GemmBlock block{0, 0, scope.take<float>(super_k * padded_n)};
  ScratchSlots packed_a(scope, threads.threads(),
                        kRowPanels * tile_rows * std::min(args.k, kGemmBlockK));

  const int64_t pack_tasks = std::min<int64_t>(grid.column_panels, 4 * threads.threads());
  do {
    block.k1 = std::min(args.k, block.k0 + super_k);
    threads.run(pack_tasks, [&](int64_t task) {
      HWY_DYNAMIC_DISPATCH(gemm_pack_b)
      (args, block, grid.column_panels * task / pack_tasks,
       grid.column_panels * (task + 1) / pack_tasks);
    });
    threads.run(grid.tiles(), [&](int64_t task) {
      packed_a.borrow([&](float* scratch) {
        HWY_DYNAMIC_DISPATCH(gemm_multiply)(args, block, grid.tile(task), scratch);
      });
    });
    block.k0 = block.k1;
  } while (block.k0 < args.k);
}

}  // namespace stemfabric
#endif  // HWY_ONCE
