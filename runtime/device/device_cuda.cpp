#include "runtime/device/device_cuda.h"

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/core/check.h"
#include "runtime/device/cuda_library.h"
#include "runtime/device/stream.h"

namespace stemfabric::cuda {
namespace {

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(unsigned flags = cudaEventDefault) {
    SF_CUDA_CHECK(cudaEventCreateWithFlags(&event_, flags));
  }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  void synchronize() override { SF_CUDA_CHECK(cudaEventSynchronize(event_)); }
  bool done() override {
    const cudaError_t status = cudaEventQuery(event_);
    if (status == cudaErrorNotReady) {
      cudaGetLastError();  // no error: it must not be found by the next who asks
      return false;
    }
    check(status, "cudaEventQuery(event_)", __FILE__, __LINE__);
    return true;
  }
  double seconds_since(const Event& earlier) const override {
    float milliseconds = 0;
    SF_CUDA_CHECK(cudaEventElapsedTime(&milliseconds,
                                       dynamic_cast<const CudaEvent&>(earlier).event_, event_));
    return 1e-3 * static_cast<double>(milliseconds);
  }
  cudaEvent_t event() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

bool launches_wait() {
  const char* value = std::getenv("STEMFABRIC_SYNC_LAUNCHES");
  return value != nullptr && std::string_view(value) == "1";
}

class CudaGraph final : public Graph {
 public:
  CudaGraph(cudaStream_t stream, cudaGraph_t graph) : stream_(stream) {
    const std::unique_ptr<CUgraph_st, cudaError_t (*)(cudaGraph_t)> captured(graph,
                                                                             cudaGraphDestroy);
    SF_CUDA_CHECK(cudaGraphInstantiate(&executable_, graph, 0));
  }
  ~CudaGraph() override { cudaGraphExecDestroy(executable_); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  void launch() override { SF_CUDA_CHECK(cudaGraphLaunch(executable_, stream_)); }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(int device) : Stream({DeviceKind::kCuda, device}) {
    SF_CUDA_CHECK(cudaSetDevice(device));
    SF_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~CudaStream() override { cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  void synchronize() override { SF_CUDA_CHECK(cudaStreamSynchronize(stream_)); }
  std::unique_ptr<Event> record() override {
    auto event = std::make_unique<CudaEvent>();
    SF_CUDA_CHECK(cudaEventRecord(event->event(), stream_));
    return event;
  }
  void wait(const Event& event) override {
    SF_CUDA_CHECK(cudaStreamWaitEvent(stream_, dynamic_cast<const CudaEvent&>(event).event(), 0));
  }
  void follow(Stream& other) override {
    const CudaEvent event(cudaEventDisableTiming);
    SF_CUDA_CHECK(cudaEventRecord(event.event(), static_cast<cudaStream_t>(other.native())));
    SF_CUDA_CHECK(cudaStreamWaitEvent(stream_, event.event(), 0));
  }
  std::unique_ptr<Stream> another() const override {
    return std::make_unique<CudaStream>(device().index);
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    SF_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_));
  }
  void fill(void* at, unsigned char byte, std::size_t bytes) override {
    SF_CUDA_CHECK(cudaMemsetAsync(at, byte, bytes, stream_));
  }
  // Where every launch is waited for, nothing can be captured.
  bool can_capture() const override { return !launches_wait(); }
  std::unique_ptr<Graph> capture(const std::function<void()>& work) override {
    SF_CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      if (cudaStreamEndCapture(stream_, &graph) == cudaSuccess) {
        cudaGraphDestroy(graph);
      }
      cudaGetLastError();  // the capture that failed is no concern of later calls
      throw;
    }
    SF_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
    return std::make_unique<CudaGraph>(stream_, graph);
  }
  void* native() const override { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

constexpr const char* kNameTheKernel =
    "STEMFABRIC_SYNC_LAUNCHES=1 makes every launch wait and names the right one";

std::atomic<const char*> g_last_kernel{nullptr};

// A kernel's fault shows in whatever call comes later, and in every call from then on.
bool is_fault_of_a_kernel(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
      return true;
    default:
      return false;
  }
}

// What to add to the words of an error that may be a kernel's.
std::string last_kernel_words(cudaError_t error) {
  const char* kernel = g_last_kernel.load();
  if (!is_fault_of_a_kernel(error) || kernel == nullptr) {
    return "";
  }
  return fmt::format("; the last kernel launched was {}; {}", kernel, kNameTheKernel);
}

}  // namespace

void throw_library_error(const char* library, const std::string& words, int code,
                         bool out_of_memory, const char* expression, const char* file, int line) {
  int device = -1;
  cudaGetDevice(&device);
  const std::string message = fmt::format("{} error {} ({}) on device {} in {} ({}:{})", library,
                                          code, words, device, expression, file, line);
  if (out_of_memory) {
    throw OutOfMemoryError(message);
  }
  throw DeviceError(message);
}

void check(int status, const char* expression, const char* file, int line) {
  if (status != cudaSuccess) {
    const auto error = static_cast<cudaError_t>(status);
    throw_library_error("CUDA",
                        fmt::format("{}, {}{}", cudaGetErrorName(error), cudaGetErrorString(error),
                                    last_kernel_words(error)),
                        status, error == cudaErrorMemoryAllocation, expression, file, line);
  }
}

namespace {

std::string hex(const cudaUUID_t& uuid) {
  std::string text;
  for (const char byte : uuid.bytes) {
    text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  return text;
}

}  // namespace

void append_devices(std::vector<DeviceInfo>& devices) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    return;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) {
      cudaGetLastError();  // a device in trouble is none that can be used
      continue;
    }
    devices.push_back({.device = {DeviceKind::kCuda, i},
                       .name = properties.name,
                       .capability = fmt::format("{}.{}", properties.major, properties.minor),
                       .memory_bytes = static_cast<int64_t>(properties.totalGlobalMem),
                       .processors = properties.multiProcessorCount,
                       .id = hex(properties.uuid)});
  }
}

std::string unavailable_reason() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0;
    int runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    return driver == 0
               ? "no NVIDIA driver is installed"
               : fmt::format(
                     "the NVIDIA driver is too old: it knows CUDA {}.{}, and this "
                     "build needs {}.{}",
                     driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  }
  if (status != cudaSuccess) {
    return fmt::format("CUDA says: {}", cudaGetErrorString(status));
  }
  return count > 0 ? "" : "CUDA found no device";
}

namespace {

void check_launch(cudaError_t status, const char* kernel, const Stream& stream) {
  if (status != cudaSuccess) {
    throw DeviceError("kernel {} on {}: {} ({}){}", kernel, stream.device().to_string(),
                      cudaGetErrorString(status), cudaGetErrorName(status),
                      launches_wait()
                          ? std::string()
                          : fmt::format("; an earlier kernel may be at fault: {}", kNameTheKernel));
  }
}

}  // namespace

void launch(const Stream& stream, const char* name, const void* kernel,
            const std::array<unsigned, 3>& grid, const std::array<unsigned, 3>& block,
            void** arguments, std::size_t dynamic_shared_bytes) {
  constexpr std::size_t kDefaultSharedBytes = 48 * 1024;
  if (dynamic_shared_bytes > kDefaultSharedBytes) {
    check_launch(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(dynamic_shared_bytes)),
                 name, stream);
  }
  auto* native = static_cast<cudaStream_t>(stream.native());
  check_launch(
      cudaLaunchKernel(kernel, dim3(grid[0], grid[1], grid[2]), dim3(block[0], block[1], block[2]),
                       arguments, dynamic_shared_bytes, native),
      name, stream);
  library_work_queued(stream, name);
}

void library_work_queued(const Stream& stream, const char* work) {
  g_last_kernel = work;
  if (launches_wait()) {
    check_launch(cudaStreamSynchronize(static_cast<cudaStream_t>(stream.native())), work, stream);
  }
}

std::unique_ptr<Stream> make_stream(int device) { return std::make_unique<CudaStream>(device); }

}  // namespace stemfabric::cuda
