// cuDNN, loaded when its first function is called, as cuBLASLt is (cublas_lt_cuda.cpp).
#if SF_HAVE_CUDNN
#include <cudnn.h>
#include <fmt/core.h>

#include "runtime/device/cuda_library.h"

namespace {

void* find_function(const char* name) {
  static stemfabric::cuda::LazyLibrary library(
      {.file = fmt::format("libcudnn.so.{}", CUDNN_MAJOR),
       .title = "cuDNN",
       .purpose = "operation graphs on a GPU",
       .remedy = fmt::format("install cuDNN {}", CUDNN_MAJOR),
       .needs = fmt::format("cuDNN {}", CUDNN_MAJOR)});
  return library.find(name);
}

}  // namespace

#define SF_CUDNN(result, name, parameters, arguments)                                       \
  result CUDNNWINAPI name parameters {                                                      \
    static const auto function = reinterpret_cast<decltype(&(name))>(find_function(#name)); \
    return function arguments;                                                              \
  }

SF_CUDNN(std::size_t, cudnnGetVersion, (), ())
SF_CUDNN(const char*, cudnnGetErrorString, (cudnnStatus_t status), (status))
SF_CUDNN(void, cudnnGetLastErrorString, (char* message, std::size_t size), (message, size))
SF_CUDNN(cudnnStatus_t, cudnnCreate, (cudnnHandle_t * handle), (handle))
SF_CUDNN(cudnnStatus_t, cudnnDestroy, (cudnnHandle_t handle), (handle))
SF_CUDNN(cudnnStatus_t, cudnnSetStream, (cudnnHandle_t handle, cudaStream_t stream),
         (handle, stream))
SF_CUDNN(cudnnStatus_t, cudnnBackendCreateDescriptor,
         (cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor),
         (type, descriptor))
SF_CUDNN(cudnnStatus_t, cudnnBackendDestroyDescriptor, (cudnnBackendDescriptor_t descriptor),
         (descriptor))
SF_CUDNN(cudnnStatus_t, cudnnBackendFinalize, (cudnnBackendDescriptor_t descriptor), (descriptor))
SF_CUDNN(cudnnStatus_t, cudnnBackendSetAttribute,
         (cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
          cudnnBackendAttributeType_t type, int64_t count, const void* values),
         (descriptor, name, type, count, values))
SF_CUDNN(cudnnStatus_t, cudnnBackendGetAttribute,
         (cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name,
          cudnnBackendAttributeType_t type, int64_t wanted, int64_t* count, void* values),
         (descriptor, name, type, wanted, count, values))
SF_CUDNN(cudnnStatus_t, cudnnBackendExecute,
         (cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack),
         (handle, plan, pack))
#endif
