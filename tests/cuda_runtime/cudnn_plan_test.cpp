// cuDNN itself, asked on a machine without a GPU whether it has an engine for our graphs on a given
// one: it generates the kernel, and only its driver is missing. Nothing is computed.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "kernels/attention/attention_cudnn.h"
#include "runtime/core/check.h"
#include "runtime/device/cudnn_graph.h"
#include "tests/support/paths.h"

namespace stemfabric::test {
namespace {

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Question {
  int64_t batch, tokens, heads, dim;
  bool masked;
};

// As the model lays its tensors out: q, k and v side by side in a row.
cuda::CudnnAttention attention_of(const Question& q) {
  const int64_t width = q.heads * q.dim;
  const cuda::CudnnAttention::Strides fused = {q.tokens * 3 * width, 3 * width, q.dim};
  const cuda::CudnnAttention::Strides single = {q.tokens * width, width, q.dim};
  return {.batch = q.batch,
          .tokens = q.tokens,
          .heads = q.heads,
          .dim = q.dim,
          .masked = q.masked,
          .q = fused,
          .k = fused,
          .v = fused,
          .o = single,
          .d_o = single,
          .dq = fused,
          .dk = fused,
          .dv = fused};
}

class CudnnPlans : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    try {
      GTEST_LOG_(INFO) << "cuDNN " << cuda::cudnn_version();
    } catch (const DeviceError& error) {
      GTEST_SKIP() << error.what();
    }
    // Without a driver the library offers nothing. The toolkit's library of that name, made for
    // linking, refuses every call: with it plans get as far as loading their kernel.
    if (::dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) == nullptr &&
        ::dlopen("/usr/local/cuda/lib64/stubs/libcuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      GTEST_SKIP() << "neither a driver nor the toolkit's stub of it is installed";
    }
  }
  static std::string device() { return contents(data_dir() / "cudnn" / GetParam()); }

  // Whether the library got as far as a kernel for the device, and what it said.
  static testing::AssertionResult has_kernel(cuda::CudnnDevice& device,
                                             const cuda::CudnnAttention& a, bool backward) {
    try {
      backward ? cudnn_attention_backward_plan(device, a) : cudnn_attention_forward_plan(device, a);
    } catch (const DeviceError& error) {
      if (std::string_view(error.what()).find("cuLibraryLoadData") == std::string_view::npos) {
        return testing::AssertionFailure() << error.what();
      }
    }
    return testing::AssertionSuccess();
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, CudnnPlans, testing::Values("h200.json", "a100.json"),
                         [](const auto& test) { return std::string(test.param, 4); });

TEST_P(CudnnPlans, ThereIsAKernelForEachShapeOfTheModel) {
  cuda::CudnnDevice properties(device());
  for (const Question& q : {Question{32, 512, 8, 32, true}, Question{8, 25, 8, 32, true},
                            Question{1, 130, 4, 64, false}, Question{2, 3, 2, 8, true},
                            Question{2, 1024, 3, 128, false}}) {
    for (const bool backward : {false, true}) {
      EXPECT_TRUE(has_kernel(properties, attention_of(q), backward))
          << q.batch << " x " << q.tokens << " tokens, " << q.heads << " heads of " << q.dim
          << (q.masked ? ", masked" : "") << (backward ? ", backward" : ", forward");
    }
  }
}

// The test can fail: a graph that is not attention has none.
TEST_P(CudnnPlans, ThereIsNoneForRowsThatDoNotFit) {
  cuda::CudnnDevice properties(device());
  cuda::CudnnAttention odd = attention_of({2, 64, 2, 20, false});
  EXPECT_FALSE(has_kernel(properties, odd, false));
}

}  // namespace
}  // namespace stemfabric::test
