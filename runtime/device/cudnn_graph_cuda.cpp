#if SF_HAVE_CUDNN
#include "runtime/device/cudnn_graph.h"

#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <algorithm>
#include <iterator>

#include "runtime/core/check.h"
#include "runtime/device/cuda_library.h"
#include "runtime/device/device_cuda.h"

namespace stemfabric::cuda {
namespace {

void check_cudnn(cudnnStatus_t status, const char* expression, const char* file, int line) {
  if (status == CUDNN_STATUS_SUCCESS) {
    return;
  }
  std::array<char, 1024> words{};
  cudnnGetLastErrorString(words.data(), words.size());
  const std::string_view last(words.data());
  throw_library_error(
      "cuDNN", fmt::format("{}{}{}", cudnnGetErrorString(status), last.empty() ? "" : ": ", last),
      status, status == CUDNN_STATUS_ALLOC_FAILED, expression, file, line);
}
#define SF_CUDNN_CHECK(call) check_cudnn(call, #call, __FILE__, __LINE__)

cudnnBackendDescriptor_t descriptor_of(const CudnnDescriptor& descriptor) {
  return static_cast<cudnnBackendDescriptor_t>(descriptor.get());
}

template <typename T>
void set(const CudnnDescriptor& to, cudnnBackendAttributeName_t name,
         cudnnBackendAttributeType_t type, const T* values, std::size_t count) {
  SF_CUDNN_CHECK(
      cudnnBackendSetAttribute(descriptor_of(to), name, type, static_cast<int64_t>(count), values));
}
template <typename T>
void set(const CudnnDescriptor& to, cudnnBackendAttributeName_t name,
         cudnnBackendAttributeType_t type, const T& value) {
  set(to, name, type, &value, 1);
}
void set(const CudnnDescriptor& to, cudnnBackendAttributeName_t name, void* descriptor) {
  set(to, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, descriptor);
}
void finalize(const CudnnDescriptor& descriptor) {
  SF_CUDNN_CHECK(cudnnBackendFinalize(descriptor_of(descriptor)));
}

cudnnDataType_t data_type(DType dtype) {
  SF_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "a cuDNN graph of {}", dtype_name(dtype));
  return dtype == DType::kBF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

CudnnGraph::Sizes packed(const CudnnGraph::Sizes& dims) {
  return {dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1};
}

cudnnPointwiseMode_t mode_of(CudnnGraph::Pointwise mode) {
  switch (mode) {
    case CudnnGraph::Pointwise::kAdd:
      return CUDNN_POINTWISE_ADD;
    case CudnnGraph::Pointwise::kSubtract:
      return CUDNN_POINTWISE_SUB;
    case CudnnGraph::Pointwise::kMultiply:
      return CUDNN_POINTWISE_MUL;
    case CudnnGraph::Pointwise::kDivide:
      return CUDNN_POINTWISE_DIV;
    case CudnnGraph::Pointwise::kExp:
      return CUDNN_POINTWISE_EXP;
    case CudnnGraph::Pointwise::kLog:
      return CUDNN_POINTWISE_LOG;
  }
  throw InternalError("no such pointwise mode");
}

// Whether the results of an engine may differ from run to run.
bool may_vary(const CudnnDescriptor& configuration) {
  const CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t into = descriptor_of(engine);
  int64_t count = 0;
  SF_CUDNN_CHECK(cudnnBackendGetAttribute(descriptor_of(configuration), CUDNN_ATTR_ENGINECFG_ENGINE,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &into));
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  SF_CUDNN_CHECK(cudnnBackendGetAttribute(into, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                          CUDNN_TYPE_NUMERICAL_NOTE, notes.size(), &count,
                                          notes.data()));
  const auto end = notes.begin() + std::clamp<int64_t>(count, 0, notes.size());
  return std::find(notes.begin(), end, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) != end;
}

// The library's choices for a graph, best first.
std::vector<CudnnDescriptor> choices(const CudnnDevice& device, const CudnnDescriptor& graph) {
  const CudnnDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  set(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph.get());
  set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
  if (device.properties() != nullptr) {
    set(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device.properties()->get());
  }
  finalize(heuristics);
  int64_t count = 0;
  SF_CUDNN_CHECK(cudnnBackendGetAttribute(descriptor_of(heuristics), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr));
  std::vector<CudnnDescriptor> found;
  std::vector<cudnnBackendDescriptor_t> into;
  for (int64_t i = 0; i < count; ++i) {
    into.push_back(descriptor_of(found.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)));
  }
  SF_CUDNN_CHECK(cudnnBackendGetAttribute(descriptor_of(heuristics), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count,
                                          into.data()));
  while (std::ssize(found) > count) {
    found.pop_back();
  }
  return found;
}

}  // namespace

int64_t cudnn_version_number() { return static_cast<int64_t>(cudnnGetVersion()); }

std::string cudnn_version() {
  const int64_t version = cudnn_version_number();
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

CudnnDescriptor::CudnnDescriptor(int type) {
  cudnnBackendDescriptor_t made = nullptr;
  SF_CUDNN_CHECK(
      cudnnBackendCreateDescriptor(static_cast<cudnnBackendDescriptorType_t>(type), &made));
  descriptor_ = made;
}

CudnnDescriptor::~CudnnDescriptor() {
  if (descriptor_ != nullptr) {
    cudnnBackendDestroyDescriptor(static_cast<cudnnBackendDescriptor_t>(descriptor_));
  }
}

// ---------------------------------------------------------------- devices

CudnnDevice::CudnnDevice(int index) {
  SF_CUDA_CHECK(cudaSetDevice(index));
  cudnnHandle_t handle = nullptr;
  SF_CUDNN_CHECK(cudnnCreate(&handle));
  handle_ = handle;
}

CudnnDevice::CudnnDevice(const std::string& properties)
    : properties_(std::make_unique<CudnnDescriptor>(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)) {
  set(*properties_, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, properties.data(),
      properties.size());
  finalize(*properties_);
}

CudnnDevice::~CudnnDevice() {
  plans_.clear();
  if (handle_ != nullptr) {
    cudnnDestroy(static_cast<cudnnHandle_t>(handle_));
  }
}

CudnnDevice* CudnnDevice::find(Device device, std::string& reason) {
  SF_CHECK(device.kind == DeviceKind::kCuda, "cuDNN for {}", device.to_string());
  struct Found {
    std::unique_ptr<CudnnDevice> device;
    std::string reason;
  };
  // Never destroyed: at the program's end the driver may be gone before us.
  static auto* const all = new std::map<int, Found>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const auto [found, is_new] = all->try_emplace(device.index);
  if (is_new) {
    try {
      found->second.device = std::make_unique<CudnnDevice>(device.index);
    } catch (const Error& error) {
      found->second.reason = error.what();
    }
  }
  reason = found->second.reason;
  return found->second.device.get();
}

const CudnnPlan* CudnnDevice::plan(const std::vector<int64_t>& key,
                                   const std::function<std::unique_ptr<CudnnPlan>()>& make) {
  const std::lock_guard lock(mutex_);
  const auto found = plans_.find(key);
  return found != plans_.end() ? found->second.get() : (plans_[key] = make()).get();
}

// ---------------------------------------------------------------- graphs

CudnnGraph::Tensor CudnnGraph::add(DType dtype, const Sizes& dims, const Sizes& strides,
                                   bool in_memory, bool by_value) {
  constexpr int64_t kAlignment = 16;
  const CudnnDescriptor& part = parts_.emplace_back(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const Tensor tensor{std::ssize(parts_), dims, strides, part.get()};
  set(part, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, data_type(dtype));
  set(part, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, dims.data(), dims.size());
  set(part, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides.data(), strides.size());
  set(part, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, tensor.id);
  set(part, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignment);
  set(part, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, !in_memory && !by_value);
  set(part, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, by_value);
  finalize(part);
  return tensor;
}

CudnnGraph::Tensor CudnnGraph::memory(DType dtype, const Sizes& dims, const Sizes& strides) {
  return add(dtype, dims, strides, true, false);
}

CudnnGraph::Tensor CudnnGraph::scalar() {
  return add(DType::kF32, {1, 1, 1, 1}, {1, 1, 1, 1}, false, true);
}

CudnnGraph::Tensor CudnnGraph::between(DType dtype, const Sizes& dims) {
  return add(dtype, dims, packed(dims), false, false);
}

CudnnGraph::Tensor CudnnGraph::matmul(const Tensor& a, const Tensor& b) {
  const Tensor to = between(DType::kF32, {a.dims[0], a.dims[1], a.dims[2], b.dims[3]});
  matmul_into(to, a, b);
  return to;
}

void CudnnGraph::matmul_into(const Tensor& to, const Tensor& a, const Tensor& b) {
  const CudnnDescriptor& product = parts_.emplace_back(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  set(product, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  finalize(product);
  const CudnnDescriptor& operation =
      operations_.emplace_back(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  set(operation, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_MATMUL_CDESC, to.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_MATMUL_DESC, product.get());
  finalize(operation);
}

void CudnnGraph::add_pointwise(Pointwise mode, const Tensor& x, const Tensor* y, const Tensor& to) {
  const CudnnDescriptor& function = parts_.emplace_back(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  set(function, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode_of(mode));
  set(function, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  finalize(function);
  const CudnnDescriptor& operation =
      operations_.emplace_back(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  set(operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function.get());
  set(operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x.descriptor);
  if (y != nullptr) {
    set(operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, y->descriptor);
  }
  set(operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, to.descriptor);
  finalize(operation);
}

CudnnGraph::Tensor CudnnGraph::pointwise(Pointwise mode, const Tensor& x) {
  const Tensor to = between(DType::kF32, x.dims);
  add_pointwise(mode, x, nullptr, to);
  return to;
}
CudnnGraph::Tensor CudnnGraph::pointwise(Pointwise mode, const Tensor& x, const Tensor& y) {
  return pointwise_as(DType::kF32, mode, x, y);
}
CudnnGraph::Tensor CudnnGraph::pointwise_as(DType dtype, Pointwise mode, const Tensor& x,
                                            const Tensor& y) {
  const Tensor to = between(dtype, x.dims);
  add_pointwise(mode, x, &y, to);
  return to;
}
void CudnnGraph::pointwise_into(const Tensor& to, Pointwise mode, const Tensor& x,
                                const Tensor& y) {
  add_pointwise(mode, x, &y, to);
}

CudnnGraph::Tensor CudnnGraph::reduce(Reduction mode, const Tensor& x) {
  const Tensor to = between(DType::kF32, {x.dims[0], x.dims[1], x.dims[2], 1});
  const CudnnDescriptor& function = parts_.emplace_back(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  set(function, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
      mode == Reduction::kMax ? CUDNN_REDUCE_TENSOR_MAX : CUDNN_REDUCE_TENSOR_ADD);
  set(function, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  finalize(function);
  const CudnnDescriptor& operation =
      operations_.emplace_back(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  set(operation, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, to.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_REDUCTION_DESC, function.get());
  finalize(operation);
  return to;
}

CudnnGraph::Tensor CudnnGraph::transposed(const Tensor& x, DType dtype) {
  const Tensor to = add(dtype, {x.dims[0], x.dims[1], x.dims[3], x.dims[2]},
                        {x.strides[0], x.strides[1], x.strides[3], x.strides[2]}, false, false);
  const CudnnDescriptor& operation =
      operations_.emplace_back(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  set(operation, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, to.descriptor);
  finalize(operation);
  return to;
}

std::unique_ptr<CudnnPlan> CudnnGraph::plan(CudnnDevice& device) && {
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const CudnnDescriptor& operation : operations_) {
    operations.push_back(descriptor_of(operation));
  }
  CudnnDescriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, operations.data(),
      operations.size());
  auto* handle = static_cast<cudnnHandle_t>(device.handle());
  if (handle != nullptr) {
    set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
  }
  finalize(graph);
  std::string refused = "cuDNN has no engine for the graph that repeats to the last bit";
  for (CudnnDescriptor& choice : choices(device, graph)) {
    if (may_vary(choice)) {
      continue;
    }
    CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, choice.get());
    if (handle != nullptr) {
      set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle);
    } else {
      set(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device.properties()->get());
    }
    try {
      finalize(plan);
    } catch (const DeviceError& error) {
      refused = error.what();  // the next may do
      continue;
    }
    std::vector<CudnnDescriptor> parts = std::move(parts_);
    std::ranges::move(operations_, std::back_inserter(parts));
    parts.push_back(std::move(graph));
    parts.push_back(std::move(choice));
    return std::make_unique<CudnnPlan>(device, std::move(parts), std::move(plan));
  }
  throw DeviceError("{}", refused);
}

// ---------------------------------------------------------------- plans

CudnnPlan::CudnnPlan(CudnnDevice& device, std::vector<CudnnDescriptor> parts, CudnnDescriptor plan)
    : device_(device), parts_(std::move(parts)), plan_(std::move(plan)) {
  int64_t bytes = 0;
  int64_t count = 0;
  SF_CUDNN_CHECK(cudnnBackendGetAttribute(descriptor_of(plan_),
                                          CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                          CUDNN_TYPE_INT64, 1, &count, &bytes));
  workspace_bytes_ = static_cast<std::size_t>(bytes);
}

void CudnnPlan::run(const Stream& stream,
                    const std::vector<std::pair<int64_t, const void*>>& pointers,
                    void* workspace) const {
  std::vector<int64_t> ids;
  std::vector<const void*> addresses;
  for (const auto& [id, address] : pointers) {
    ids.push_back(id);
    addresses.push_back(address);
  }
  const CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, ids.data(), ids.size());
  set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, addresses.data(),
      addresses.size());
  set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
  finalize(pack);
  auto* handle = static_cast<cudnnHandle_t>(device_.handle());
  const std::lock_guard lock(device_.mutex());
  SF_CUDNN_CHECK(cudnnSetStream(handle, static_cast<cudaStream_t>(stream.native())));
  SF_CUDNN_CHECK(cudnnBackendExecute(handle, descriptor_of(plan_), descriptor_of(pack)));
  library_work_queued(stream, "cuDNN graph");
}

}  // namespace stemfabric::cuda
#endif
