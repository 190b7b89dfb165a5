// Handles of NVIDIA's libraries, one set per device, with what they have worked out so far; only in
// builds with CUDA. Includes no header of theirs.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "runtime/core/dtype.h"
#include "runtime/device/device.h"

namespace stemfabric::cuda {

// A product as cuBLASLt sees it: what its choice of an algorithm depends on.
struct MatmulKey {
  int64_t batch = 1;
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kF32, c_dtype = DType::kF32;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;
  int64_t a_step = 0, b_step = 0, c_step = 0, vector_step = 0;
  bool a_transposed = false, b_transposed = false, accumulate = false, tf32 = false;
  int epilogue = 0;
  int64_t mask_bits = 0;  // of a row of its ReLU mask
  // Bytes that each address is a multiple of, at most 256.
  std::array<uint32_t, 4> alignment{};  // of A, B, C, and the epilogue's vector
  auto operator<=>(const MatmulKey&) const = default;
};

struct MatmulChoice {
  bool possible = false;                         // the library has an algorithm at all
  alignas(8) std::array<uint64_t, 8> algorithm;  // a cublasLtMatmulAlgo_t
  std::size_t workspace_bytes = 0;
};

class LibraryHandles {
 public:
  // Those of a GPU, made on first use and kept. DeviceError if a library cannot be started.
  static LibraryHandles& of(Device device);
  explicit LibraryHandles(int device);
  ~LibraryHandles();
  LibraryHandles(const LibraryHandles&) = delete;
  LibraryHandles& operator=(const LibraryHandles&) = delete;

  void* cublas_lt() const { return cublas_lt_; }  // a cublasLtHandle_t

  // The choice for a key; choose(handle) is asked the first time only.
  template <typename Choose>
  MatmulChoice matmul_choice(const MatmulKey& key, Choose&& choose) {
    const std::lock_guard lock(mutex_);
    const auto found = matmul_choices_.find(key);
    if (found != matmul_choices_.end()) {
      return found->second;
    }
    return matmul_choices_.emplace(key, choose(cublas_lt_)).first->second;
  }

 private:
  void* cublas_lt_ = nullptr;
  std::mutex mutex_;
  std::map<MatmulKey, MatmulChoice> matmul_choices_;
};

// Throws a DeviceError with the call, the device and the library's own words if status is not
// success.
void check_cublas(int status, const char* expression, const char* file, int line);

}  // namespace stemfabric::cuda

#define SF_CUBLAS_CHECK(call) \
  ::stemfabric::cuda::check_cublas(static_cast<int>(call), #call, __FILE__, __LINE__)
