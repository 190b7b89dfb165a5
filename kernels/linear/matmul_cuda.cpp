// Products by cuBLASLt in float32, of float32 or bf16 factors.
//
// The library counts columns first: to it a row-major C [m,n] is Cᵀ [n,m], and Cᵀ = Bᵀ·Aᵀ. So its
// first operand is our B, its second our A, and its bias, one value per row of Cᵀ, is ours per
// column of C. Arithmetic is float32 (CUBLAS_COMPUTE_32F); TF32 only if the context asks for it.
// Algorithms that add partial sums with atomics in place are excluded, so that results repeat.
#include "kernels/linear/matmul_cuda.h"

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/linear/linear.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_library.h"
#include "runtime/device/library_handles.h"

namespace stemfabric::cuda {
namespace {

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(MatmulChoice::algorithm));

// What NVIDIA advises for Hopper; other chips need less. Taken from the workspace as needed.
constexpr std::size_t kMaxWorkspaceBytes = std::size_t{32} << 20;

// Of an address and those a step of bytes further on.
uint32_t alignment_of(const void* pointer, int64_t step) {
  constexpr uint64_t kMost = 256;  // the library asks for no more
  const auto address =
      reinterpret_cast<std::uintptr_t>(pointer) | static_cast<uint64_t>(step) | kMost;
  return static_cast<uint32_t>(address & (~address + 1));
}

// The library takes the alignment of an epilogue's vector from its address, and has been reported
// to read ones that are not multiples of 16 bytes all the same as if they were (pytorch #194497,
// marian-dev #778): those are left to our kernels.
constexpr uint32_t kVectorAlignment = 16;

const void* vector_of(const MatmulArgs& args) {
  return args.b_column_sum != nullptr ? args.b_column_sum : args.bias;
}

uint32_t vector_alignment(const MatmulArgs& args) {
  const std::size_t bytes =
      args.b_column_sum != nullptr ? sizeof *args.b_column_sum : dtype_size(args.c_dtype);
  return alignment_of(vector_of(args), args.vector_step * static_cast<int64_t>(bytes));
}

cublasLtEpilogue_t epilogue_of(const MatmulArgs& args, bool write_mask) {
  if (args.b_column_sum != nullptr) {
    return CUBLASLT_EPILOGUE_BGRADA;
  }
  if (args.relu_gradient) {
    return CUBLASLT_EPILOGUE_DRELU;
  }
  if (args.bias != nullptr) {
    return !args.relu   ? CUBLASLT_EPILOGUE_BIAS
           : write_mask ? CUBLASLT_EPILOGUE_RELU_AUX_BIAS
                        : CUBLASLT_EPILOGUE_RELU_BIAS;
  }
  return !args.relu   ? CUBLASLT_EPILOGUE_DEFAULT
         : write_mask ? CUBLASLT_EPILOGUE_RELU_AUX
                      : CUBLASLT_EPILOGUE_RELU;
}

// Of a row of the mask that an epilogue writes or reads; 0 if it has none.
int64_t mask_bits_of(const MatmulArgs& args, cublasLtEpilogue_t epilogue) {
  const bool has_mask = epilogue == CUBLASLT_EPILOGUE_DRELU ||
                        epilogue == CUBLASLT_EPILOGUE_RELU_AUX ||
                        epilogue == CUBLASLT_EPILOGUE_RELU_AUX_BIAS;
  return has_mask ? 8 * relu_mask_bytes(args.n) : 0;
}

// One product in the library's terms. Lives on the stack: making it costs no allocation.
class Description {
 public:
  Description(const MatmulArgs& args, cublasLtEpilogue_t epilogue, bool tf32) {
    SF_CUBLAS_CHECK(cublasLtMatmulDescInit(
        &operation_, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, args.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, args.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    const void* vector = vector_of(args);
    if (epilogue != CUBLASLT_EPILOGUE_DEFAULT && vector != nullptr) {
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
      if (args.batch > 1) {
        set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, args.vector_step);
      }
    }
    if (const int64_t bits = mask_bits_of(args, epilogue); bits > 0) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, args.relu_mask);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, bits);
    }
    layout(first_, args.b, args.dtype, args.k, args.n, args.batch);
    layout(second_, args.a, args.dtype, args.m, args.k, args.batch);
    layout(result_, {args.c, args.c_stride, false, args.c_step}, args.c_dtype, args.m, args.n,
           args.batch);
  }
  cublasLtMatmulDesc_t operation() { return &operation_; }
  cublasLtMatrixLayout_t first() { return &first_; }
  cublasLtMatrixLayout_t second() { return &second_; }
  cublasLtMatrixLayout_t result() { return &result_; }

 private:
  template <typename T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    SF_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(&operation_, attribute, &value, sizeof value));
  }
  // A row-major [rows, columns] (or its transpose in memory), which the library calls
  // [columns, rows]. One row may have any stride; the library wants one that fits.
  static void layout(cublasLtMatrixLayoutOpaque_t& to, const MatmulOperand& matrix, DType dtype,
                     int64_t rows, int64_t columns, int64_t batch) {
    const int64_t height = matrix.transposed ? rows : columns;
    const int64_t width = matrix.transposed ? columns : rows;
    SF_CUBLAS_CHECK(cublasLtMatrixLayoutInit(
        &to, dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F, static_cast<uint64_t>(height),
        static_cast<uint64_t>(width), std::max(matrix.stride, height)));
    if (batch > 1) {
      const auto count = static_cast<int32_t>(batch);
      SF_CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(&to, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                       &count, sizeof count));
      SF_CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(
          &to, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &matrix.step, sizeof matrix.step));
    }
  }

  cublasLtMatmulDescOpaque_t operation_;
  cublasLtMatrixLayoutOpaque_t first_, second_, result_;
};

MatmulKey key_of(const MatmulArgs& args, cublasLtEpilogue_t epilogue, bool tf32) {
  const auto factor = static_cast<int64_t>(dtype_size(args.dtype));
  const auto result = static_cast<int64_t>(dtype_size(args.c_dtype));
  return {.batch = args.batch,
          .m = args.m,
          .n = args.n,
          .k = args.k,
          .dtype = args.dtype,
          .c_dtype = args.c_dtype,
          .a_stride = args.a.stride,
          .b_stride = args.b.stride,
          .c_stride = args.c_stride,
          .a_step = args.a.step,
          .b_step = args.b.step,
          .c_step = args.c_step,
          .vector_step = args.vector_step,
          .a_transposed = args.a.transposed,
          .b_transposed = args.b.transposed,
          .accumulate = args.accumulate,
          .tf32 = tf32,
          .epilogue = static_cast<int>(epilogue),
          .mask_bits = mask_bits_of(args, epilogue),
          .alignment = {alignment_of(args.a.data, args.a.step * factor),
                        alignment_of(args.b.data, args.b.step * factor),
                        alignment_of(args.c, args.c_step * result), vector_alignment(args)}};
}

// The library's first choice, or none.
MatmulChoice ask(void* handle, Description& description, const MatmulKey& key) {
  cublasLtMatmulPreferenceOpaque_t preference;
  SF_CUBLAS_CHECK(cublasLtMatmulPreferenceInit(&preference));
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    SF_CUBLAS_CHECK(
        cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kMaxWorkspaceBytes});
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.alignment[1]);  // its A is our B
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.alignment[0]);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.alignment[2]);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.alignment[2]);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      static_cast<cublasLtHandle_t>(handle), description.operation(), description.first(),
      description.second(), description.result(), description.result(), &preference, 1, &best,
      &found);
  MatmulChoice choice;
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || found == 0) {
    return choice;
  }
  SF_CUBLAS_CHECK(status);
  SF_CUBLAS_CHECK(best.state);
  choice.possible = true;
  std::memcpy(choice.algorithm.data(), &best.algo, sizeof best.algo);
  choice.workspace_bytes = best.workspaceSize;
  return choice;
}

bool try_matmul(const ExecutionContext& ctx, const MatmulArgs& args, cublasLtEpilogue_t epilogue) {
  LibraryHandles& handles = LibraryHandles::of(ctx.device());
  const bool tf32 = ctx.tf32() && args.dtype == DType::kF32;
  Description description(args, epilogue, tf32);
  const MatmulKey key = key_of(args, epilogue, tf32);
  const MatmulChoice choice =
      handles.matmul_choice(key, [&](void* handle) { return ask(handle, description, key); });
  if (!choice.possible) {
    return false;
  }
  WorkspaceScope scope(ctx.workspace());
  void* workspace = choice.workspace_bytes > 0
                        ? scope.take<std::byte>(static_cast<int64_t>(choice.workspace_bytes))
                        : nullptr;
  cublasLtMatmulAlgo_t algorithm;
  std::memcpy(&algorithm, choice.algorithm.data(), sizeof algorithm);
  const float one = 1.0f;
  const float beta = args.accumulate ? 1.0f : 0.0f;
  SF_CUBLAS_CHECK(cublasLtMatmul(
      static_cast<cublasLtHandle_t>(handles.cublas_lt()), description.operation(), &one,
      args.b.data, description.first(), args.a.data, description.second(), &beta, args.c,
      description.result(), args.c, description.result(), &algorithm, workspace,
      choice.workspace_bytes, static_cast<cudaStream_t>(ctx.stream().native())));
  library_work_queued(ctx.stream(), "cuBLASLt product");
  return true;
}

}  // namespace

MatmulDone matmul(const ExecutionContext& ctx, const MatmulArgs& args) {
  const bool fits = vector_of(args) == nullptr || vector_alignment(args) >= kVectorAlignment;
  if (fits && args.relu && args.relu_mask != nullptr &&
      try_matmul(ctx, args, epilogue_of(args, true))) {
    return {.epilogue = true, .relu_mask = true};
  }
  const cublasLtEpilogue_t epilogue = epilogue_of(args, false);
  if (fits && try_matmul(ctx, args, epilogue)) {
    return {.epilogue = true};
  }
  if (epilogue != CUBLASLT_EPILOGUE_DEFAULT && try_matmul(ctx, args, CUBLASLT_EPILOGUE_DEFAULT)) {
    return {};
  }
  throw DeviceError(
      "cuBLASLt has no algorithm for {} {} product(s) of [{}, {}] and [{}, {}] on {} (row strides "
      "{}, {}, {}); give sizes and row strides that are multiples of 8, or float32",
      args.batch, dtype_name(args.dtype), args.m, args.k, args.k, args.n, ctx.device().to_string(),
      args.a.stride, args.b.stride, args.c_stride);
}

}  // namespace stemfabric::cuda
