// Ops run as CUDA kernels on the SIMT executor: variant 1 lets threads run in order, 2 in reverse,
// 3 in random order.
#include <memory>
#include <new>

#include "kernels/simt/executor.h"
#include "tests/simt/simt_stream.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {

const ExecutionContext& test_context(int variant) {
  static SimtHostMemory memory;
  static const ExecutionContext context(std::make_unique<SimtStream>(),
                                        {.threads = 1, .resource = &memory});
  constexpr uint64_t kSeed = 1;
  simt::set_schedule(variant == 1   ? simt::Schedule::kForward
                     : variant == 2 ? simt::Schedule::kReverse
                                    : simt::Schedule::kShuffled,
                     kSeed);
  return context;
}

bool ops_are_emulated() { return true; }

void* allocate_test_memory(std::size_t bytes) { return ::operator new(bytes); }
void free_test_memory(void* memory) noexcept {
  simt::finish_all_queues_later();
  ::operator delete(memory);
}
void wait_for_ops() { simt::finish_all_queues(); }

}  // namespace stemfabric::test
