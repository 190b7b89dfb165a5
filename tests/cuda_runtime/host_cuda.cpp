#include "tests/cuda_runtime/host_cuda.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <utility>

using stemfabric::test::host_cuda;

namespace {

// After a kernel's fault every call fails, until the process ends.
cudaError_t g_sticky = cudaSuccess;
cudaError_t g_last = cudaSuccess;
int g_device = 0;

struct Block {
  std::size_t bytes;
  std::size_t* pool;
};
std::map<void*, Block> g_blocks;

cudaError_t result(cudaError_t status) {
  if (g_sticky != cudaSuccess) {
    status = g_sticky;
  }
  if (status != cudaSuccess) {
    g_last = status;
  }
  return status;
}

// The stream that captures: no more than one does.
cudaStream_t g_capturing = nullptr;

cudaError_t forbidden_in_capture();

cudaError_t allocate(void** at, std::size_t bytes, std::size_t& pool) {
  if (g_capturing != nullptr) {
    return forbidden_in_capture();
  }
  if (g_sticky == cudaSuccess && bytes > pool) {
    return result(cudaErrorMemoryAllocation);
  }
  if (g_sticky == cudaSuccess) {
    *at = std::malloc(bytes);
    pool -= bytes;
    g_blocks[*at] = {bytes, &pool};
    ++host_cuda().allocations;
  }
  return result(cudaSuccess);
}

cudaError_t release(void* at) {
  if (at != nullptr) {
    const auto block = g_blocks.find(at);
    if (block == g_blocks.end()) {
      return result(cudaErrorInvalidValue);
    }
    *block->second.pool += block->second.bytes;
    g_blocks.erase(block);
    std::free(at);
    --host_cuda().allocations;
  }
  return result(cudaSuccess);
}

}  // namespace

struct CUgraph_st {
  std::vector<std::function<void()>> work;
  bool lost = false;
  cudaStream_t origin = nullptr;
  std::set<cudaStream_t> members, unjoined;  // streams; those that the origin has to wait for yet
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};
struct CUstream_st {
  std::vector<std::function<void()>> work;
  std::size_t done = 0;
  CUgraph_st* captured = nullptr;
  void add(std::function<void()> piece) {
    (captured != nullptr ? captured->work : work).push_back(std::move(piece));
    if (captured != nullptr && captured->origin != this) {
      captured->unjoined.insert(this);
    }
  }
  void run(std::size_t until) {
    while (done < until && g_sticky == cudaSuccess) {
      work[done++]();
    }
  }
};
struct CUevent_st {
  CUstream_st* stream = nullptr;
  std::size_t position = 0;
  bool timed = true;
  CUgraph_st* captured = nullptr;
};

namespace {
cudaError_t forbidden_in_capture() {
  g_capturing->captured->lost = true;
  return result(cudaErrorStreamCaptureUnsupported);
}
}  // namespace

namespace stemfabric::test {
HostCuda& host_cuda() {
  static HostCuda state;
  return state;
}
void reset_host_cuda() {
  const HostCuda now = host_cuda();
  host_cuda() = {.streams = now.streams,
                 .events = now.events,
                 .allocations = now.allocations,
                 .graphs = now.graphs};
  g_sticky = g_last = cudaSuccess;
}
}  // namespace stemfabric::test

extern "C" {

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorSystemNotReady:
      return "system not yet initialized";
    default:
      return "some error";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(g_last, g_sticky); }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = host_cuda().survey == cudaSuccess ? host_cuda().devices : 0;
  return result(host_cuda().survey);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (std::ranges::count(host_cuda().broken, device) > 0) {
    return result(cudaErrorDevicesUnavailable);
  }
  *properties = {};
  std::strcpy(properties->name, "a GPU of the test");
  properties->major = 9;
  properties->totalGlobalMem = host_cuda().free_bytes;
  properties->multiProcessorCount = 132;
  return result(cudaSuccess);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = host_cuda().driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device >= host_cuda().devices) {
    return result(cudaErrorInvalidDevice);
  }
  g_device = device;
  return result(cudaSuccess);
}
cudaError_t cudaGetDevice(int* device) {
  *device = g_device;
  return result(cudaSuccess);
}

cudaError_t cudaMalloc(void** at, std::size_t bytes) {
  return allocate(at, bytes, host_cuda().free_bytes);
}
cudaError_t cudaFree(void* at) { return release(at); }
cudaError_t cudaMallocHost(void** at, std::size_t bytes) {
  return allocate(at, bytes, host_cuda().pinned_bytes);
}
cudaError_t cudaFreeHost(void* at) { return release(at); }
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = host_cuda().free_bytes;
  return result(cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  host_cuda().calls.push_back(flags == cudaStreamNonBlocking ? "stream" : "blocking stream");
  *stream = new CUstream_st;
  ++host_cuda().streams;
  return result(cudaSuccess);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  --host_cuda().streams;
  return result(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->captured != nullptr) {
    return forbidden_in_capture();
  }
  stream->run(stream->work.size());
  return result(cudaSuccess);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  if (event->captured != nullptr) {
    CUgraph_st& graph = *event->captured;
    stream->captured = &graph;
    graph.members.insert(stream);
    if (stream == graph.origin) {
      graph.unjoined.erase(event->stream);
    } else {
      graph.unjoined.insert(stream);
    }
    return result(cudaSuccess);
  }
  stream->add([awaited = *event] { awaited.stream->run(awaited.position); });
  return result(cudaSuccess);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st{.timed = flags != cudaEventDisableTiming};
  ++host_cuda().events;
  return result(cudaSuccess);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --host_cuda().events;
  return result(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  // Events that order streams may be captured; one that somebody is to wait for may not.
  if (stream->captured != nullptr && event->timed) {
    return forbidden_in_capture();
  }
  *event = {stream, stream->work.size(), event->timed, stream->captured};
  return result(cudaSuccess);
}
// One piece of the stream's work is done each time.
cudaError_t cudaEventQuery(cudaEvent_t event) {
  CUstream_st& stream = *event->stream;
  if (stream.done < event->position) {
    stream.run(stream.done + 1);
  }
  return result(stream.done < event->position ? cudaErrorNotReady : cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  event->stream->run(event->position);
  return result(cudaSuccess);
}
// A millisecond for each piece of work between them.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  *milliseconds = static_cast<float>(to->position) - static_cast<float>(from->position);
  return result(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (kind != cudaMemcpyDefault) {
    return result(cudaErrorInvalidMemcpyDirection);
  }
  stream->add([=] { std::memcpy(to, from, bytes); });
  return result(cudaSuccess);
}
cudaError_t cudaMemsetAsync(void* at, int value, std::size_t bytes, cudaStream_t stream) {
  stream->add([=] { std::memset(at, value, bytes); });
  return result(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (g_capturing != nullptr || mode != cudaStreamCaptureModeThreadLocal) {
    return result(cudaErrorIllegalState);
  }
  g_capturing = stream;
  stream->captured = new CUgraph_st;
  stream->captured->origin = stream;
  stream->captured->members = {stream};
  ++host_cuda().graphs;
  return result(cudaSuccess);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (g_capturing != stream) {
    return result(cudaErrorIllegalState);
  }
  g_capturing = nullptr;
  *graph = stream->captured;
  for (cudaStream_t member : (*graph)->members) {
    member->captured = nullptr;
  }
  if ((*graph)->lost || !(*graph)->unjoined.empty()) {
    const bool lost = (*graph)->lost;
    cudaGraphDestroy(std::exchange(*graph, nullptr));
    return result(lost ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined);
  }
  return result(cudaSuccess);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long /*flags*/) {
  if (const cudaError_t refused = std::exchange(host_cuda().instantiate, cudaSuccess);
      refused != cudaSuccess) {
    return result(refused);
  }
  *executable = new CUgraphExec_st{graph->work};
  ++host_cuda().graphs;
  return result(cudaSuccess);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  --host_cuda().graphs;
  return result(cudaSuccess);
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  --host_cuda().graphs;
  return result(cudaSuccess);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const std::function<void()>& piece : executable->work) {
    stream->add(piece);
  }
  return result(cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void* /*kernel*/, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize ||
      static_cast<std::size_t>(value) > host_cuda().max_shared) {
    return result(cudaErrorInvalidValue);
  }
  host_cuda().calls.push_back("shared " + std::to_string(value));
  return result(cudaSuccess);
}
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** /*arguments*/,
                             std::size_t shared, cudaStream_t stream) {
  if (const cudaError_t refused = std::exchange(host_cuda().launch, cudaSuccess);
      refused != cudaSuccess) {
    return result(refused);
  }
  host_cuda().calls.push_back("launch " + std::to_string(grid.x) + " x " + std::to_string(block.x) +
                              ", " + std::to_string(shared));
  stream->add([kernel] {
    if (kernel == host_cuda().faulty_kernel) {
      g_sticky = cudaErrorIllegalAddress;
    }
  });
  return result(cudaSuccess);
}
}
