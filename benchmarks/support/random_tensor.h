// Tensors of benchmarks, in the memory of the device that the context runs on: inputs with the same
// values every time, outputs that hold NaN until they are written.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"

namespace stemfabric::benchmarks {

// Uniform in [low, high); f32, or bf16 (rounded).
Tensor random_tensor(const ExecutionContext& ctx, const Shape& shape, uint64_t seed,
                     double low = -1, double high = 1, DType dtype = DType::kF32);
// u8, 1 with the given probability, else 0.
Tensor random_mask(const ExecutionContext& ctx, const Shape& shape, uint64_t seed, double ones);
// f32, bf16, f64 or i32.
Tensor tensor_of(const ExecutionContext& ctx, const Shape& shape, std::span<const double> values,
                 DType dtype = DType::kF32);
Tensor zero_tensor(const ExecutionContext& ctx, const Shape& shape, DType dtype = DType::kF32);
// An output: NaN in all elements.
Tensor output_tensor(const ExecutionContext& ctx, const Shape& shape, DType dtype = DType::kF32);

// What a tensor (f32, bf16, f64 or u8) holds; of a matrix (f32 or bf16) only every step-th row, or
// every step-th column.
std::vector<double> values_of(const ExecutionContext& ctx, const Tensor& tensor);
std::vector<double> some_rows(const ExecutionContext& ctx, const Tensor& matrix, int64_t step);
std::vector<double> some_columns(const ExecutionContext& ctx, const Tensor& matrix, int64_t step);

}  // namespace stemfabric::benchmarks
