// A stand-in for the part of cuBLASLt that kernels/linear/matmul_cuda.cpp calls, written from
// NVIDIA's documentation of it, column-major and all: descriptors keep what they were given and
// refuse what the library would, products are loops in double precision on the executor's stream.
//
// As unkind as the library may be: it has no algorithm for some products with an epilogue, wants
// workspace for some, and refuses addresses that are less aligned than it was promised, and vectors
// of epilogues that are no multiples of 16 bytes, whatever it was told of them.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>

#include "kernels/simt/queue.h"
#include "runtime/core/bf16.h"

namespace {

// What we keep in the library's opaque structs.
struct Description {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int32_t transpose_first, transpose_second;
  uint32_t epilogue;
  void* vector;
  int64_t vector_step;
  void* mask;
  int64_t mask_bits;  // of a column
};
struct Layout {
  cudaDataType_t type;
  uint64_t rows, columns;
  int64_t stride;
  int32_t batch;
  int64_t step;
};
struct Preference {
  uint64_t workspace;
  uint32_t reductions;
  uint32_t alignment[4];  // A, B, C, D
};
// In the algorithm: what it was chosen for.
struct Algorithm {
  uint64_t m, n, k;
  uint32_t epilogue;
  uint32_t alignment[3];  // A, B, D
  uint64_t workspace;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

template <typename T, typename Opaque>
T get(const Opaque* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T, typename Opaque>
void put(Opaque* to, const T& value) {
  static_assert(sizeof(T) <= sizeof(Opaque));
  std::memcpy(to, &value, sizeof value);
}
// Attributes have one size each: any other is refused.
template <typename T>
cublasStatus_t assign(T& to, const void* from, std::size_t bytes) {
  if (bytes != sizeof to) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  std::memcpy(&to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// float32 or bf16 values in memory.
struct Values {
  void* data;
  cudaDataType_t type;
  int64_t first;
  double get(uint64_t at) const {
    const uint64_t i = at + static_cast<uint64_t>(first);
    return type == CUDA_R_16BF
               ? static_cast<double>(stemfabric::from_bf16(static_cast<stemfabric::Bf16*>(data)[i]))
               : static_cast<double>(static_cast<float*>(data)[i]);
  }
  void set(uint64_t at, double value) const {
    const uint64_t i = at + static_cast<uint64_t>(first);
    const auto rounded = static_cast<float>(value);
    if (type == CUDA_R_16BF) {
      static_cast<stemfabric::Bf16*>(data)[i] = stemfabric::to_bf16(rounded);
    } else {
      static_cast<float*>(data)[i] = rounded;
    }
  }
};
struct Matrix {
  Values values;
  int64_t stride;
  bool transposed;
  // Index of an element of op(M), columns first in memory.
  uint64_t at(uint64_t row, uint64_t column) const {
    return transposed ? column + row * static_cast<uint64_t>(stride)
                      : row + column * static_cast<uint64_t>(stride);
  }
  double get(uint64_t row, uint64_t column) const { return values.get(at(row, column)); }
};

// What float32 arithmetic goes with: A and B of one type; D of theirs, or float32.
bool types_fit(const Description& op, const Layout& a, const Layout& b, const Layout& d) {
  const bool factors = a.type == b.type && (a.type == CUDA_R_32F || a.type == CUDA_R_16BF);
  const bool fast = op.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  return factors && (d.type == CUDA_R_32F || d.type == a.type) && op.scale == CUDA_R_32F &&
         (op.compute == CUBLAS_COMPUTE_32F || (fast && a.type == CUDA_R_32F));
}

struct Sizes {
  uint64_t m, n, k;
};
// Nothing if the shapes do not fit each other.
bool sizes_of(const Description& op, const Layout& a, const Layout& b, const Layout& d,
              Sizes& sizes) {
  const bool ta = op.transpose_first == CUBLAS_OP_T;
  const bool tb = op.transpose_second == CUBLAS_OP_T;
  sizes = {ta ? a.columns : a.rows, tb ? b.rows : b.columns, ta ? a.rows : a.columns};
  const uint64_t other_k = tb ? b.columns : b.rows;
  return sizes.k == other_k && d.rows == sizes.m && d.columns == sizes.n && a.batch == d.batch &&
         b.batch == d.batch && types_fit(op, a, b, d);
}

// Its constants are the library's business: here, odd sizes have no fused algorithm, sizes of 6,
// 14, … none that writes a mask, as many terms none that reads one, and products of many columns
// want workspace.
bool has_algorithm(const Sizes& sizes, uint32_t epilogue) {
  const bool writes_mask =
      epilogue == CUBLASLT_EPILOGUE_RELU_AUX || epilogue == CUBLASLT_EPILOGUE_RELU_AUX_BIAS;
  return epilogue == CUBLASLT_EPILOGUE_DEFAULT ||
         (sizes.m % 2 == 0 && !(writes_mask && sizes.m % 8 == 6) &&
          !(epilogue == CUBLASLT_EPILOGUE_DRELU && sizes.k % 8 == 6));
}
uint64_t workspace_of(const Sizes& sizes) { return sizes.n > 16 ? 1024 : 0; }

bool aligned(const void* pointer, uint32_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

}  // namespace

extern "C" {

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_INVALID_VALUE ? "an invalid value" : "some status";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static int the_library = 0;
  *handle = reinterpret_cast<cublasLtHandle_t>(&the_library);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t /*handle*/) { return CUBLAS_STATUS_SUCCESS; }

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t to, std::size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  if (size != sizeof *to) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  put(to, Description{.compute = compute,
                      .scale = scale,
                      .transpose_first = CUBLAS_OP_N,
                      .transpose_second = CUBLAS_OP_N,
                      .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
                      .vector = nullptr,
                      .vector_step = 0,
                      .mask = nullptr,
                      .mask_bits = 0});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t to,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  auto description = get<Description>(to);
  cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      status = assign(description.transpose_first, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
      status = assign(description.transpose_second, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      status = assign(description.epilogue, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      status = assign(description.vector, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      status = assign(description.mask, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      status = assign(description.mask_bits, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      status = assign(description.vector_step, value, bytes);
      break;
    default:
      break;
  }
  put(to, description);
  return status;
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t to, std::size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t stride) {
  if (size != sizeof *to || stride < static_cast<int64_t>(rows)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  put(to, Layout{type, rows, columns, stride, 1, 0});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t to,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, std::size_t bytes) {
  auto layout = get<Layout>(to);
  cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) {
    status = assign(layout.batch, value, bytes);
  } else if (attribute == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET) {
    status = assign(layout.step, value, bytes);
  }
  put(to, layout);
  return status;
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t to,
                                                     std::size_t size) {
  if (size != sizeof *to) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  put(to, Preference{.workspace = 0,
                     .reductions = CUBLASLT_REDUCTION_SCHEME_MASK,
                     .alignment = {256, 256, 256, 256}});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t to,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  auto preference = get<Preference>(to);
  cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      status = assign(preference.workspace, value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      status = assign(preference.reductions, value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      status = assign(preference.alignment[0], value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      status = assign(preference.alignment[1], value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      status = assign(preference.alignment[2], value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      status = assign(preference.alignment[3], value, bytes);
      break;
    default:
      break;
  }
  put(to, preference);
  return status;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t op,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t /*c*/,
                                              cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preferences, int asked,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* found) {
  const auto description = get<Description>(op);
  const auto preference = get<Preference>(preferences);
  Sizes sizes{};
  *found = 0;
  if (asked < 1 || !sizes_of(description, get<Layout>(a), get<Layout>(b), get<Layout>(d), sizes)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  // In-place sums with atomics are never asked for: results must repeat.
  if ((preference.reductions & CUBLASLT_REDUCTION_SCHEME_INPLACE) != 0) {
    return CUBLAS_STATUS_INTERNAL_ERROR;
  }
  if (!has_algorithm(sizes, description.epilogue) || workspace_of(sizes) > preference.workspace) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].workspaceSize = workspace_of(sizes);
  put(&results[0].algo, Algorithm{sizes.m,
                                  sizes.n,
                                  sizes.k,
                                  description.epilogue,
                                  {preference.alignment[0], preference.alignment[1],
                                   std::min(preference.alignment[2], preference.alignment[3])},
                                  workspace_of(sizes)});
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t op,
                              const void* alpha, const void* a_data, cublasLtMatrixLayout_t a,
                              const void* b_data, cublasLtMatrixLayout_t b, const void* beta,
                              const void* c_data, cublasLtMatrixLayout_t /*c*/, void* d_data,
                              cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  const auto description = get<Description>(op);
  const auto algorithm = get<Algorithm>(algo);
  const auto la = get<Layout>(a);
  const auto lb = get<Layout>(b);
  const auto ld = get<Layout>(d);
  Sizes sizes{};
  if (!sizes_of(description, la, lb, ld, sizes) || sizes.m != algorithm.m ||
      sizes.n != algorithm.n || sizes.k != algorithm.k ||
      description.epilogue != algorithm.epilogue || workspace_bytes < algorithm.workspace ||
      (algorithm.workspace > 0 && workspace == nullptr) || c_data != d_data ||
      !aligned(a_data, algorithm.alignment[0]) || !aligned(b_data, algorithm.alignment[1]) ||
      !aligned(d_data, algorithm.alignment[2])) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const float scale = *static_cast<const float*>(alpha);
  const float old = *static_cast<const float*>(beta);
  const uint32_t epilogue = description.epilogue;
  const bool dgrad = epilogue == CUBLASLT_EPILOGUE_DRELU;
  const bool aux =
      epilogue == CUBLASLT_EPILOGUE_RELU_AUX || epilogue == CUBLASLT_EPILOGUE_RELU_AUX_BIAS;
  if ((dgrad || aux) && (description.mask == nullptr || !aligned(description.mask, 16) ||
                         description.mask_bits % 128 != 0 ||
                         description.mask_bits < static_cast<int64_t>(sizes.m) || ld.batch > 1)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (epilogue != CUBLASLT_EPILOGUE_DEFAULT && epilogue != CUBLASLT_EPILOGUE_RELU &&
      epilogue != CUBLASLT_EPILOGUE_RELU_AUX && !dgrad &&
      (description.vector == nullptr || !aligned(description.vector, 16))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  reinterpret_cast<stemfabric::simt::Queue*>(stream)->push([=] {
    if (workspace_bytes > 0) {
      std::memset(workspace, 0xFF, workspace_bytes);  // somebody else's values are lost
    }
    const bool bias =
        (epilogue & CUBLASLT_EPILOGUE_BIAS) != 0 && !dgrad && epilogue != CUBLASLT_EPILOGUE_BGRADA;
    const bool relu =
        aux || epilogue == CUBLASLT_EPILOGUE_RELU || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
    for (int64_t i = 0; i < ld.batch; ++i) {
      const Matrix first{{const_cast<void*>(a_data), la.type, i * la.step},
                         la.stride,
                         description.transpose_first == CUBLAS_OP_T};
      const Matrix second{{const_cast<void*>(b_data), lb.type, i * lb.step},
                          lb.stride,
                          description.transpose_second == CUBLAS_OP_T};
      const Matrix to{{d_data, ld.type, i * ld.step}, ld.stride, false};
      // Bias and its gradient are of D's type unless an attribute says otherwise, and none does.
      const Values vector{description.vector, ld.type, i * description.vector_step};
      for (uint64_t row = 0; row < sizes.m; ++row) {
        double over_k = 0;
        for (uint64_t k = 0; k < sizes.k; ++k) {
          over_k += first.get(row, k);
        }
        if (epilogue == CUBLASLT_EPILOGUE_BGRADA) {
          vector.set(row, over_k);
        }
        for (uint64_t column = 0; column < sizes.n; ++column) {
          double sum = 0;
          for (uint64_t k = 0; k < sizes.k; ++k) {
            sum += first.get(row, k) * second.get(k, column);
          }
          sum = scale * sum + (old != 0.0F ? old * to.get(row, column) : 0.0) +
                (bias ? vector.get(row) : 0.0);
          // In an order of bits of its own: the most significant first.
          const uint64_t place = column * static_cast<uint64_t>(description.mask_bits) + row;
          auto* byte = static_cast<uint8_t*>(description.mask) + place / 8;
          const auto bit = static_cast<uint8_t>(0x80U >> (place % 8));
          if (aux) {
            *byte = static_cast<uint8_t>(sum <= 0 ? *byte & ~bit : *byte | bit);
          }
          const bool cleared = (relu && sum < 0) || (dgrad && (*byte & bit) == 0);
          to.values.set(to.at(row, column), cleared ? 0.0 : sum);
        }
      }
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
}
