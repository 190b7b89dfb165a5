#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "runtime/core/check.h"
#include "runtime/device/device_cuda.h"
#include "runtime/device/library_handles.h"

namespace stemfabric::cuda {

LibraryHandles::LibraryHandles(int device) {
  SF_CUDA_CHECK(cudaSetDevice(device));
  cublasLtHandle_t handle = nullptr;
  SF_CUBLAS_CHECK(cublasLtCreate(&handle));
  cublas_lt_ = handle;
}

LibraryHandles::~LibraryHandles() { cublasLtDestroy(static_cast<cublasLtHandle_t>(cublas_lt_)); }

LibraryHandles& LibraryHandles::of(Device device) {
  SF_CHECK(device.kind == DeviceKind::kCuda, "handles of CUDA's libraries for {}",
           device.to_string());
  // Never destroyed: at the program's end the driver may be gone before us.
  static auto* const all = new std::map<int, std::unique_ptr<LibraryHandles>>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  auto& handles = (*all)[device.index];
  if (!handles) {
    handles = std::make_unique<LibraryHandles>(device.index);
  }
  return *handles;
}

void check_cublas(int status, const char* expression, const char* file, int line) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    const auto error = static_cast<cublasStatus_t>(status);
    throw_library_error("cuBLAS", cublasLtGetStatusString(error), status,
                        error == CUBLAS_STATUS_ALLOC_FAILED, expression, file, line);
  }
}

}  // namespace stemfabric::cuda
