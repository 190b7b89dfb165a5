// Ops run on the first GPU; tensors lie in managed memory. All variants are one: a GPU's order of
// threads is not ours to choose, so the repetitions show that results do not depend on it.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string_view>

#include "runtime/device/device_cuda.h"
#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

// Without a GPU every test is skipped, or fails if STEMFABRIC_EXPECT_DEVICE=cuda.
class NeedsGpu : public testing::Environment {
  void SetUp() override {
    const std::string reason = cuda_unavailable_reason();
    if (reason.empty()) {
      return;
    }
    const char* expected = std::getenv("STEMFABRIC_EXPECT_DEVICE");
    ASSERT_FALSE(expected != nullptr && std::string_view(expected) == "cuda")
        << "STEMFABRIC_EXPECT_DEVICE=cuda, but there is no GPU: " << reason;
    GTEST_SKIP() << "no GPU: " << reason;
  }
};
[[maybe_unused]] const auto* const kNeedsGpu =
    testing::AddGlobalTestEnvironment(new NeedsGpu);  // GoogleTest owns it

}  // namespace

const ExecutionContext& test_context(int /*variant*/) {
  static const ExecutionContext context(
      ExecutionContext::Options{.device = {DeviceKind::kCuda, 0}, .threads = 1});
  return context;
}

bool ops_are_emulated() { return false; }

void* allocate_test_memory(std::size_t bytes) {
  // Of the host, which kernels read and write over the bus: not every system has managed memory.
  void* memory = nullptr;
  SF_CUDA_CHECK(cudaHostAlloc(&memory, bytes, cudaHostAllocMapped | cudaHostAllocPortable));
  return memory;
}
void free_test_memory(void* memory) noexcept { cudaFreeHost(memory); }
void wait_for_ops() { SF_CUDA_CHECK(cudaDeviceSynchronize()); }

}  // namespace stemfabric::test
