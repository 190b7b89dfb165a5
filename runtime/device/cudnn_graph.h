// Operation graphs of cuDNN: described, offered to the library, kept as plans and run. But for
// cudnn_version() only in builds with CUDA and cuDNN's headers (SF_HAVE_CUDNN); the library is
// loaded when it is asked for.
//
//   CudnnGraph graph;
//   const auto x = graph.memory(DType::kBF16, {1, 8, 64, 32}, {16384, 2048, 32, 1});
//   graph.pointwise_into(y, CudnnGraph::Pointwise::kMultiply, x, graph.scalar());
//   std::unique_ptr<CudnnPlan> plan = std::move(graph).plan(device);
//   plan->run(stream, {{x.id, pointer}, …}, workspace);
//
// Source of the API: NVIDIA's documentation of the cuDNN backend.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/core/dtype.h"
#include "runtime/device/device.h"
#include "runtime/device/stream.h"

namespace stemfabric::cuda {

// What a plan is made for: a GPU, or one of which only the properties are known, so that the
// library can be asked what it would do there.
class CudnnDevice;

// "9.19.0" of the library; loads it. DeviceError that says what to do if it is missing.
std::string cudnn_version();
int64_t cudnn_version_number();  // 91900 of it

// One descriptor of the library's; given back when it ends.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(int type);  // a cudnnBackendDescriptorType_t
  ~CudnnDescriptor();
  CudnnDescriptor(CudnnDescriptor&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, nullptr)) {}
  CudnnDescriptor(const CudnnDescriptor&) = delete;
  CudnnDescriptor& operator=(const CudnnDescriptor&) = delete;
  void* get() const { return descriptor_; }

 private:
  void* descriptor_ = nullptr;
};

// Ready to run, on the stream of any context of its device.
class CudnnPlan {
 public:
  // parts: what the plan was made from, kept as long as it is.
  CudnnPlan(CudnnDevice& device, std::vector<CudnnDescriptor> parts, CudnnDescriptor plan);
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  // A pointer for every memory tensor (device memory) and scalar (a float on the host, read before
  // the call returns). workspace: workspace_bytes() of device memory.
  void run(const Stream& stream, const std::vector<std::pair<int64_t, const void*>>& pointers,
           void* workspace) const;

 private:
  CudnnDevice& device_;
  std::vector<CudnnDescriptor> parts_;
  CudnnDescriptor plan_;
  std::size_t workspace_bytes_ = 0;
};

class CudnnDevice {
 public:
  // The handle of a GPU, made on first use and kept; null with the reason if the library cannot be
  // started, which is not tried again.
  static CudnnDevice* find(Device device, std::string& reason);
  explicit CudnnDevice(int index);
  // A device that is not there, as the library's CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION has it:
  // plans can be asked for, but not run.
  explicit CudnnDevice(const std::string& properties);
  ~CudnnDevice();
  CudnnDevice(const CudnnDevice&) = delete;
  CudnnDevice& operator=(const CudnnDevice&) = delete;

  void* handle() const { return handle_; }  // a cudnnHandle_t, or null
  const CudnnDescriptor* properties() const { return properties_.get(); }  // null: it has a handle
  std::mutex& mutex() { return mutex_; }

  // The plan for a key, made by the first call with it; null where `make` returned none.
  const CudnnPlan* plan(const std::vector<int64_t>& key,
                        const std::function<std::unique_ptr<CudnnPlan>()>& make);

 private:
  void* handle_ = nullptr;
  std::unique_ptr<CudnnDescriptor> properties_;
  std::mutex mutex_;
  std::map<std::vector<int64_t>, std::unique_ptr<CudnnPlan>> plans_;
};

class CudnnGraph {
 public:
  using Sizes = std::array<int64_t, 4>;
  struct Tensor {
    int64_t id = 0;
    Sizes dims{}, strides{};
    void* descriptor = nullptr;
  };
  enum class Pointwise { kAdd, kSubtract, kMultiply, kDivide, kExp, kLog };
  enum class Reduction { kSum, kMax };

  // Memory that run() is given: 16-byte aligned.
  Tensor memory(DType dtype, const Sizes& dims, const Sizes& strides);
  // A float32 that run() is given.
  Tensor scalar();

  // Results that are never in memory as a whole, float32 unless said. Shapes broadcast to that of
  // x.
  Tensor matmul(const Tensor& a, const Tensor& b);  // over the last two dimensions
  Tensor pointwise(Pointwise mode, const Tensor& x);
  Tensor pointwise(Pointwise mode, const Tensor& x, const Tensor& y);
  Tensor pointwise_as(DType dtype, Pointwise mode, const Tensor& x, const Tensor& y);
  Tensor reduce(Reduction mode, const Tensor& x);  // over the last dimension, which stays as 1
  // The last two dimensions of x swapped: the same elements.
  Tensor transposed(const Tensor& x, DType dtype);

  // The same into memory.
  void matmul_into(const Tensor& to, const Tensor& a, const Tensor& b);
  void pointwise_into(const Tensor& to, Pointwise mode, const Tensor& x, const Tensor& y);

  // The library's first choice that repeats to the last bit; ends the graph. DeviceError with its
  // words if it has none.
  std::unique_ptr<CudnnPlan> plan(CudnnDevice& device) &&;

 private:
  Tensor add(DType dtype, const Sizes& dims, const Sizes& strides, bool in_memory, bool by_value);
  Tensor between(DType dtype, const Sizes& dims);
  void add_pointwise(Pointwise mode, const Tensor& x, const Tensor* y, const Tensor& to);

  std::vector<CudnnDescriptor> parts_;  // tensors, and what operations refer to
  std::vector<CudnnDescriptor> operations_;
};

}  // namespace stemfabric::cuda
