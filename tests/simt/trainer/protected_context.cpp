// Ops run as CUDA kernels on the SIMT executor, on memory that the host cannot touch. Variants are
// orders of threads, as in simt_context.cpp.
#include <memory>
#include <new>

#include "kernels/simt/executor.h"
#include "tests/simt/device_memory.h"
#include "tests/simt/simt_stream.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {

const ExecutionContext& test_context(int variant) {
  static SimtDeviceMemory memory;
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

// Tests of the trainer reach a tensor's values through copies alone.
void* allocate_test_memory(std::size_t bytes) { return ::operator new(bytes); }
void free_test_memory(void* memory) noexcept {
  simt::finish_all_queues_later();
  ::operator delete(memory);
}
void wait_for_ops() { simt::finish_all_queues(); }

}  // namespace stemfabric::test
