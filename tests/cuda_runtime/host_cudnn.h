// What the stand-in for cuDNN (host_cudnn.cpp) did, and what it refuses.
#pragma once

#include <cstdint>

namespace stemfabric::test {

struct HostCudnn {
  int64_t version = 91900;
  bool starts = true;      // cudnnCreate
  int64_t plans = 0;       // made
  int64_t executions = 0;  // of plans
  // Head dimensions that it has no engine for, and for which its engine wants 2 GiB.
  static constexpr int64_t kRefusedDim = 24;
  static constexpr int64_t kGreedyDim = 40;
};
HostCudnn& host_cudnn();

}  // namespace stemfabric::test
