// A stand-in for CUDA's runtime library on the host, so that the code that calls it can be tested,
// its errors above all, where there is no GPU. The program that links host_cuda.cpp gets its
// functions instead of the library's.
//
// Work is asynchronous as late as it may be: copies and fills happen, in order, when somebody waits
// for their stream; a question whether an event is done does one piece. Kernels do nothing, or fail
// as asked. While a stream captures, it may not be waited for nor recorded with a timed event, and
// memory may not be allocated: the capture is lost then. Streams that wait for an event of it are
// captured with it, and it has to wait for them in the end.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <vector>

namespace stemfabric::test {

struct HostCuda {
  // What there is.
  cudaError_t survey = cudaSuccess;  // of cudaGetDeviceCount
  int devices = 1;
  int driver = 13000;
  std::vector<int> broken;                // devices whose properties cannot be had
  std::size_t free_bytes = 1 << 20;       // of every device; what is allocated is taken from it
  std::size_t pinned_bytes = 1 << 20;     // likewise
  std::size_t max_shared = 227 * 1024;    // dynamic shared memory that may be asked for
  cudaError_t launch = cudaSuccess;       // of the next cudaLaunchKernel
  cudaError_t instantiate = cudaSuccess;  // of the next cudaGraphInstantiate
  const void* faulty_kernel = nullptr;    // its launches succeed; then it touches a wrong address
  // What was done.
  std::vector<std::string> calls;
  int streams = 0, events = 0, allocations = 0, graphs = 0;  // alive
};

HostCuda& host_cuda();   // of this process
void reset_host_cuda();  // as at the start; what is alive stays counted

}  // namespace stemfabric::test
