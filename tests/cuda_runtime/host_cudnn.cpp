// A stand-in for the part of cuDNN's backend that runtime/device/cudnn_graph_cuda.cpp calls,
// written from NVIDIA's documentation of it: descriptors keep what they were given and refuse what
// the library would, and a plan computes its graph operation by operation, in double precision,
// each result rounded to the type of its tensor, on the executor's stream.
//
// As unkind as the library may be: its first choice does not repeat, it refuses some sizes and
// strides, wants scratch memory and destroys what is there, and reads scalars only during the call.
#include "tests/cuda_runtime/host_cudnn.h"

#include <cudnn.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "kernels/simt/queue.h"
#include "runtime/core/bf16.h"

namespace {

using stemfabric::test::HostCudnn;
using Descriptor = cudnnBackendDescriptor_t;
using Index = std::array<int64_t, 4>;

struct Value {
  cudnnBackendAttributeType_t type;
  int64_t count;
  std::vector<std::byte> bytes;
};
struct Stored {
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, Value> values;
};

Stored& stored(Descriptor descriptor) { return *reinterpret_cast<Stored*>(descriptor); }

std::size_t size_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_INT64:
      return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    default:
      return 4;  // enumerations
  }
}

template <typename T>
std::vector<T> all(Descriptor from, cudnnBackendAttributeName_t name) {
  const Value& value = stored(from).values.at(name);
  std::vector<T> values(value.bytes.size() / sizeof(T));
  std::memcpy(values.data(), value.bytes.data(), values.size() * sizeof(T));
  return values;
}
template <typename T>
T one(Descriptor from, cudnnBackendAttributeName_t name) {
  return all<T>(from, name).front();
}
bool has(Descriptor from, cudnnBackendAttributeName_t name) {
  return stored(from).values.contains(name);
}

// What each kind of descriptor has to be given, and of what type.
struct Needed {
  cudnnBackendAttributeName_t name;
  cudnnBackendAttributeType_t type;
  bool optional = false;
};
std::vector<Needed> needed(cudnnBackendDescriptorType_t type) {
  constexpr auto kDescriptor = CUDNN_TYPE_BACKEND_DESCRIPTOR;
  switch (type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
      return {{CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE},
              {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64},
              {CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64},
              {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64},
              {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64},
              {CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN},
              {CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN}};
    case CUDNN_BACKEND_MATMUL_DESCRIPTOR:
      return {{CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE}};
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR:
      return {{CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE},
              {CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE}};
    case CUDNN_BACKEND_REDUCTION_DESCRIPTOR:
      return {{CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE},
              {CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE}};
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_MATMUL_ADESC, kDescriptor},
              {CUDNN_ATTR_OPERATION_MATMUL_BDESC, kDescriptor},
              {CUDNN_ATTR_OPERATION_MATMUL_CDESC, kDescriptor},
              {CUDNN_ATTR_OPERATION_MATMUL_DESC, kDescriptor}};
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kDescriptor},
              {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, kDescriptor},
              {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, kDescriptor, true},
              {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, kDescriptor}};
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_REDUCTION_XDESC, kDescriptor},
              {CUDNN_ATTR_OPERATION_REDUCTION_YDESC, kDescriptor},
              {CUDNN_ATTR_OPERATION_REDUCTION_DESC, kDescriptor}};
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATION_RESHAPE_XDESC, kDescriptor},
              {CUDNN_ATTR_OPERATION_RESHAPE_YDESC, kDescriptor}};
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      return {{CUDNN_ATTR_OPERATIONGRAPH_OPS, kDescriptor},
              {CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE}};
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
      return {{CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, kDescriptor},
              {CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE}};
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
      return {{CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, kDescriptor},
              {CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE}};
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      return {{CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64},
              {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR},
              {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR}};
    default:
      return {};  // filled in by the library
  }
}

// ---------------------------------------------------------------- graphs

struct Tensor {
  int64_t id = 0;
  bool bf16 = false, is_virtual = false, by_value = false;
  Index dims{}, strides{};
  void* memory = nullptr;                       // of others
  std::shared_ptr<std::vector<double>> values;  // of virtual tensors and scalars, packed

  int64_t elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
  // A dimension of 1 is that of all.
  double get(const Index& at) const {
    Index i{};
    for (std::size_t d = 0; d < 4; ++d) {
      i[d] = dims[d] == 1 ? 0 : at[d];
    }
    if (values != nullptr) {
      return (*values)[static_cast<std::size_t>(packed(i))];
    }
    const int64_t offset = place(i);
    return bf16 ? static_cast<double>(
                      stemfabric::from_bf16(static_cast<stemfabric::Bf16*>(memory)[offset]))
                : static_cast<double>(static_cast<float*>(memory)[offset]);
  }
  void set(const Index& i, double value) const {
    const auto rounded = static_cast<float>(value);
    const stemfabric::Bf16 half = stemfabric::to_bf16(rounded);
    if (values != nullptr) {
      (*values)[static_cast<std::size_t>(packed(i))] =
          bf16 ? static_cast<double>(stemfabric::from_bf16(half)) : static_cast<double>(rounded);
    } else if (bf16) {
      static_cast<stemfabric::Bf16*>(memory)[place(i)] = half;
    } else {
      static_cast<float*>(memory)[place(i)] = rounded;
    }
  }

 private:
  int64_t packed(const Index& i) const {
    return ((i[0] * dims[1] + i[1]) * dims[2] + i[2]) * dims[3] + i[3];
  }
  int64_t place(const Index& i) const {
    return i[0] * strides[0] + i[1] * strides[1] + i[2] * strides[2] + i[3] * strides[3];
  }
};

Tensor tensor_of(Descriptor descriptor) {
  Tensor tensor{.id = one<int64_t>(descriptor, CUDNN_ATTR_TENSOR_UNIQUE_ID)};
  tensor.bf16 =
      one<cudnnDataType_t>(descriptor, CUDNN_ATTR_TENSOR_DATA_TYPE) == CUDNN_DATA_BFLOAT16;
  tensor.is_virtual = one<char>(descriptor, CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0;
  tensor.by_value = one<char>(descriptor, CUDNN_ATTR_TENSOR_IS_BY_VALUE) != 0;
  std::ranges::copy(all<int64_t>(descriptor, CUDNN_ATTR_TENSOR_DIMENSIONS), tensor.dims.begin());
  std::ranges::copy(all<int64_t>(descriptor, CUDNN_ATTR_TENSOR_STRIDES), tensor.strides.begin());
  return tensor;
}

template <typename Do>
void for_each_index(const Index& dims, Do&& act) {
  Index i{};
  for (i[0] = 0; i[0] < dims[0]; ++i[0]) {
    for (i[1] = 0; i[1] < dims[1]; ++i[1]) {
      for (i[2] = 0; i[2] < dims[2]; ++i[2]) {
        for (i[3] = 0; i[3] < dims[3]; ++i[3]) {
          act(i);
        }
      }
    }
  }
}

bool broadcasts(const Index& from, const Index& to) {
  for (std::size_t d = 0; d < 4; ++d) {
    if (from[d] != to[d] && from[d] != 1) {
      return false;
    }
  }
  return true;
}

struct Operation {
  cudnnBackendDescriptorType_t type;
  int mode = 0;
  std::vector<Tensor> inputs;
  Tensor output;

  bool fits() const {
    const Index& x = inputs[0].dims;
    const Index& y = output.dims;
    switch (type) {
      case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: {
        const Index& b = inputs[1].dims;
        return x[3] == b[2] && x[0] == b[0] && x[1] == b[1] && y == Index{x[0], x[1], x[2], b[3]};
      }
      case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        return y == Index{x[0], x[1], x[2], 1};
      case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: {
        const Index& from = inputs[0].strides;
        return y == Index{x[0], x[1], x[3], x[2]} &&
               output.strides == Index{from[0], from[1], from[3], from[2]};
      }
      default: {
        const bool binary = mode != CUDNN_POINTWISE_EXP && mode != CUDNN_POINTWISE_LOG;
        return x == y && inputs.size() == (binary ? 2U : 1U) &&
               (!binary || broadcasts(inputs[1].dims, y));
      }
    }
  }

  double pointwise(const Index& i) const {
    const double x = inputs[0].get(i);
    const double y = inputs.size() > 1 ? inputs[1].get(i) : 0.0;
    switch (mode) {
      case CUDNN_POINTWISE_ADD:
        return x + y;
      case CUDNN_POINTWISE_SUB:
        return x - y;
      case CUDNN_POINTWISE_MUL:
        return x * y;
      case CUDNN_POINTWISE_DIV:
        return x / y;
      case CUDNN_POINTWISE_EXP:
        return std::exp(x);
      default:
        return std::log(x);
    }
  }
  double value(const Index& i) const {
    Index at = i;
    if (type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) {
      return pointwise(i);
    }
    if (type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR) {
      return inputs[0].get({i[0], i[1], i[3], i[2]});
    }
    const bool product = type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR;
    const bool most = !product && mode == CUDNN_REDUCE_TENSOR_MAX;
    double result = most ? -INFINITY : 0.0;
    for (at[3] = 0; at[3] < inputs[0].dims[3]; ++at[3]) {
      const double x = inputs[0].get(at);
      result = most ? std::max(result, x)
                    : result + x * (product ? inputs[1].get({i[0], i[1], at[3], i[3]}) : 1.0);
    }
    return result;
  }
  void run() const {
    for_each_index(output.dims, [&](const Index& i) { output.set(i, value(i)); });
  }
};

Operation operation_of(Descriptor descriptor) {
  Operation operation{.type = stored(descriptor).type};
  const auto tensor = [&](cudnnBackendAttributeName_t name) {
    return tensor_of(one<Descriptor>(descriptor, name));
  };
  switch (operation.type) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
      operation.inputs = {tensor(CUDNN_ATTR_OPERATION_MATMUL_ADESC),
                          tensor(CUDNN_ATTR_OPERATION_MATMUL_BDESC)};
      operation.output = tensor(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
      break;
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      operation.mode =
          one<int>(one<Descriptor>(descriptor, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR),
                   CUDNN_ATTR_POINTWISE_MODE);
      operation.inputs = {tensor(CUDNN_ATTR_OPERATION_POINTWISE_XDESC)};
      if (has(descriptor, CUDNN_ATTR_OPERATION_POINTWISE_BDESC)) {
        operation.inputs.push_back(tensor(CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
      }
      operation.output = tensor(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
      break;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      operation.mode = one<int>(one<Descriptor>(descriptor, CUDNN_ATTR_OPERATION_REDUCTION_DESC),
                                CUDNN_ATTR_REDUCTION_OPERATOR);
      operation.inputs = {tensor(CUDNN_ATTR_OPERATION_REDUCTION_XDESC)};
      operation.output = tensor(CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
      break;
    default:
      operation.inputs = {tensor(CUDNN_ATTR_OPERATION_RESHAPE_XDESC)};
      operation.output = tensor(CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
  }
  return operation;
}

struct Program {
  std::vector<Operation> operations;
  uint64_t workspace = 4096;

  template <typename Do>
  void for_each_tensor(Do&& act) {
    for (Operation& operation : operations) {
      for (Tensor& input : operation.inputs) {
        act(input);
      }
      act(operation.output);
    }
  }
};

// Of an execution plan. Rows of queries, keys and the like are 4-dimensional bf16 in memory.
Program program_of(Descriptor plan) {
  const auto choice = one<Descriptor>(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
  const auto graph = one<Descriptor>(choice, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
  Program program;
  for (const Descriptor operation : all<Descriptor>(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS)) {
    program.operations.push_back(operation_of(operation));
  }
  return program;
}

cudnnStatus_t finish_plan(Descriptor plan) {
  Program program = program_of(plan);
  bool fits = std::ranges::all_of(program.operations, &Operation::fits);
  int64_t wanted = static_cast<int64_t>(program.workspace);
  program.for_each_tensor([&](const Tensor& tensor) {
    if (!tensor.bf16 || tensor.is_virtual) {
      return;
    }
    const bool rows = tensor.strides[3] == 1;
    const int64_t dim = rows ? tensor.dims[3] : tensor.dims[2];
    const int64_t row = rows ? tensor.strides[2] : tensor.strides[3];
    fits = fits && dim != HostCudnn::kRefusedDim && row % dim == 0;
    if (dim == HostCudnn::kGreedyDim) {
      wanted = int64_t{1} << 31;
    }
  });
  if (!fits) {
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  Value workspace{CUDNN_TYPE_INT64, 1, std::vector<std::byte>(sizeof wanted)};
  std::memcpy(workspace.bytes.data(), &wanted, sizeof wanted);
  stored(plan).values[CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE] = workspace;
  ++stemfabric::test::host_cudnn().plans;
  return CUDNN_STATUS_SUCCESS;
}

template <typename T>
cudnnStatus_t give(const std::vector<T>& from, int64_t wanted, int64_t* count, void* into) {
  *count = static_cast<int64_t>(from.size());
  if (into != nullptr) {
    std::memcpy(into, from.data(), static_cast<std::size_t>(std::min(wanted, *count)) * sizeof(T));
  }
  return CUDNN_STATUS_SUCCESS;
}

void* the_stream = nullptr;

}  // namespace

stemfabric::test::HostCudnn& stemfabric::test::host_cudnn() {
  static HostCudnn counts;
  return counts;
}

extern "C" {

std::size_t cudnnGetVersion() {
  return static_cast<std::size_t>(stemfabric::test::host_cudnn().version);
}
const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_OTHER";
}
void cudnnGetLastErrorString(char* message, std::size_t size) {
  std::strncpy(message, "the words of the stand-in", size - 1);
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  static int the_library = 0;
  *handle = reinterpret_cast<cudnnHandle_t>(&the_library);
  return stemfabric::test::host_cudnn().starts ? CUDNN_STATUS_SUCCESS
                                               : CUDNN_STATUS_NOT_INITIALIZED;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t /*handle*/) { return CUDNN_STATUS_SUCCESS; }
cudnnStatus_t cudnnSetStream(cudnnHandle_t /*handle*/, cudaStream_t stream) {
  the_stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  *descriptor = reinterpret_cast<Descriptor>(new Stored{.type = type});
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  delete &stored(descriptor);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void* values) {
  Stored& to = stored(descriptor);
  const std::vector<Needed> known = needed(to.type);
  const bool fits = std::ranges::any_of(
      known, [&](const Needed& one) { return one.name == name && one.type == type; });
  if (to.finalized || !fits || count < 1 || values == nullptr) {
    return CUDNN_STATUS_BAD_PARAM;
  }
  const auto* bytes = static_cast<const std::byte*>(values);
  to.values[name] = {type, count, {bytes, bytes + static_cast<std::size_t>(count) * size_of(type)}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  Stored& of = stored(descriptor);
  for (const Needed& one : needed(of.type)) {
    if (!one.optional && !of.values.contains(one.name)) {
      return CUDNN_STATUS_BAD_PARAM;
    }
    if (one.type == CUDNN_TYPE_BACKEND_DESCRIPTOR && of.values.contains(one.name)) {
      for (const Descriptor part : all<Descriptor>(descriptor, one.name)) {
        if (!stored(part).finalized) {
          return CUDNN_STATUS_BAD_PARAM;
        }
      }
    }
  }
  of.finalized = true;
  return of.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ? finish_plan(descriptor)
                                                            : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted,
                                       int64_t* count, void* into) {
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
      // Two choices: 0 does not repeat, 1 does. Each keeps its number and the graph.
      *count = 2;
      for (int64_t i = 0; into != nullptr && i < std::min<int64_t>(wanted, 2); ++i) {
        Stored& choice = stored(static_cast<Descriptor*>(into)[i]);
        choice.values = stored(descriptor).values;
        choice.values[CUDNN_ATTR_ENGINE_GLOBAL_INDEX] = {
            CUDNN_TYPE_INT64, 1, std::vector<std::byte>(1, static_cast<std::byte>(i))};
        choice.finalized = true;
      }
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      *count = 1;
      stored(*static_cast<Descriptor*>(into)).values = stored(descriptor).values;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: {
      std::vector<cudnnBackendNumericalNote_t> notes = {CUDNN_NUMERICAL_NOTE_TENSOR_CORE};
      if (one<std::byte>(descriptor, CUDNN_ATTR_ENGINE_GLOBAL_INDEX) == std::byte{0}) {
        notes.push_back(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
      }
      return give(notes, wanted, count, into);
    }
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      return type == CUDNN_TYPE_INT64 && stored(descriptor).finalized
                 ? give(all<int64_t>(descriptor, name), wanted, count, into)
                 : CUDNN_STATUS_BAD_PARAM;
    default:
      return CUDNN_STATUS_BAD_PARAM;
  }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t /*handle*/, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack) {
  auto program = std::make_shared<Program>(program_of(plan));
  const auto ids = all<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = all<void*>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  auto* workspace = one<void*>(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  if (!stored(plan).finalized || ids.size() != pointers.size() || workspace == nullptr) {
    return CUDNN_STATUS_BAD_PARAM;
  }
  std::map<int64_t, std::shared_ptr<std::vector<double>>> between;
  bool complete = true;
  program->for_each_tensor([&](Tensor& tensor) {
    if (tensor.is_virtual) {
      auto& values = between[tensor.id];
      if (values == nullptr) {
        values = std::make_shared<std::vector<double>>(tensor.elements(), NAN);
      }
      tensor.values = values;
      return;
    }
    const auto found = std::ranges::find(ids, tensor.id);
    if (found == ids.end()) {
      complete = false;
      return;
    }
    void* pointer = pointers[static_cast<std::size_t>(found - ids.begin())];
    if (tensor.by_value) {
      tensor.values = std::make_shared<std::vector<double>>(1, *static_cast<float*>(pointer));
    } else {
      complete = complete && reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
      tensor.memory = pointer;
    }
  });
  if (!complete) {
    return CUDNN_STATUS_BAD_PARAM;
  }
  ++stemfabric::test::host_cudnn().executions;
  reinterpret_cast<stemfabric::simt::Queue*>(the_stream)->push([program, workspace] {
    std::memset(workspace, 0xFF, program->workspace);
    for (const Operation& operation : program->operations) {
      operation.run();
    }
  });
  return CUDNN_STATUS_SUCCESS;
}
}
