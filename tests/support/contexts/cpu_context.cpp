// Ops run on the CPU, with as many threads as the variant says.
#include <map>
#include <memory>
#include <new>

#include "tests/support/op_harness.h"

namespace stemfabric::test {

const ExecutionContext& test_context(int variant) {
  static std::map<int, std::unique_ptr<ExecutionContext>> contexts;
  auto& context = contexts[variant];
  if (!context) {
    context = std::make_unique<ExecutionContext>(ExecutionContext::Options{.threads = variant});
  }
  return *context;
}

bool ops_are_emulated() { return false; }

void* allocate_test_memory(std::size_t bytes) { return ::operator new(bytes); }
void free_test_memory(void* memory) noexcept { ::operator delete(memory); }
void wait_for_ops() {}

}  // namespace stemfabric::test
