// cuBLASLt, loaded when its first function is called. Linked in the ordinary way its half gigabyte
// would be mapped at every start of the program, also for work on the CPU, and the program would
// not start at all where the library is not installed. These are the functions of the library that
// we call, under their own names and types: each finds itself in the library and calls it.
#include <cublasLt.h>
#include <fmt/core.h>

#include "runtime/device/cuda_library.h"

namespace {

void* find_function(const char* name) {
  static stemfabric::cuda::LazyLibrary library(
      {.file = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR),
       .title = "cuBLASLt",
       .purpose = "matrix products on a GPU",
       .remedy = fmt::format("install CUDA {}'s libcublas", CUBLAS_VER_MAJOR),
       .needs = fmt::format("CUDA {}", CUBLAS_VER_MAJOR)});
  return library.find(name);
}

}  // namespace

#define SF_CUBLASLT(result, name, parameters, arguments)                                    \
  result CUBLASWINAPI name parameters {                                                     \
    static const auto function = reinterpret_cast<decltype(&(name))>(find_function(#name)); \
    return function arguments;                                                              \
  }

SF_CUBLASLT(std::size_t, cublasLtGetVersion, (), ())
SF_CUBLASLT(const char*, cublasLtGetStatusString, (cublasStatus_t status), (status))
SF_CUBLASLT(cublasStatus_t, cublasLtCreate, (cublasLtHandle_t * handle), (handle))
SF_CUBLASLT(cublasStatus_t, cublasLtDestroy, (cublasLtHandle_t handle), (handle))
SF_CUBLASLT(cublasStatus_t, cublasLtMatrixLayoutInit_internal,
            (cublasLtMatrixLayout_t layout, std::size_t size, cudaDataType type, uint64_t rows,
             uint64_t columns, int64_t stride),
            (layout, size, type, rows, columns, stride))
SF_CUBLASLT(cublasStatus_t, cublasLtMatrixLayoutSetAttribute,
            (cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute,
             const void* value, std::size_t size),
            (layout, attribute, value, size))
SF_CUBLASLT(cublasStatus_t, cublasLtMatmulDescInit_internal,
            (cublasLtMatmulDesc_t description, std::size_t size, cublasComputeType_t compute,
             cudaDataType_t scale),
            (description, size, compute, scale))
SF_CUBLASLT(cublasStatus_t, cublasLtMatmulDescSetAttribute,
            (cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute,
             const void* value, std::size_t size),
            (description, attribute, value, size))
SF_CUBLASLT(cublasStatus_t, cublasLtMatmulPreferenceInit_internal,
            (cublasLtMatmulPreference_t preference, std::size_t size), (preference, size))
SF_CUBLASLT(cublasStatus_t, cublasLtMatmulPreferenceSetAttribute,
            (cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
             const void* value, std::size_t size),
            (preference, attribute, value, size))
SF_CUBLASLT(cublasStatus_t, cublasLtMatmulAlgoGetHeuristic,
            (cublasLtHandle_t handle, cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a,
             cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
             cublasLtMatmulPreference_t preference, int wanted,
             cublasLtMatmulHeuristicResult_t results[], int* found),
            (handle, description, a, b, c, d, preference, wanted, results, found))
SF_CUBLASLT(cublasStatus_t, cublasLtMatmulAlgoCheck,
            (cublasLtHandle_t handle, cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a,
             cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
             const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulHeuristicResult_t* result),
            (handle, description, a, b, c, d, algorithm, result))
SF_CUBLASLT(cublasStatus_t, cublasLtMatmul,
            (cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void* alpha,
             const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
             cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
             cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
             const cublasLtMatmulAlgo_t* algorithm, void* workspace, std::size_t workspace_bytes,
             cudaStream_t stream),
            (handle, description, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
             algorithm, workspace, workspace_bytes, stream))
