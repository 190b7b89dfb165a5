#include "benchmarks/support/random_tensor.h"

#include <algorithm>
#include <iterator>

#include "kernels/common/philox.h"
#include "runtime/core/bf16.h"
#include "runtime/core/check.h"
#include "runtime/memory/host_access.h"

namespace stemfabric::benchmarks {
namespace {

Tensor device_tensor(const ExecutionContext& ctx, const Shape& shape, DType dtype) {
  return Tensor(shape, dtype, ctx.resource(), "benchmark");
}

// use(n, word n of a random sequence) for all n below `count`, on all threads of the context.
template <typename Use>
void for_each_random_word(const ExecutionContext& ctx, int64_t count, uint64_t seed, Use&& use) {
  constexpr int64_t kPart = int64_t{1} << 16;
  const PhiloxKey key = {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  ctx.threads().run((count + kPart - 1) / kPart, [&](int64_t part) {
    const int64_t end = std::min((part + 1) * kPart, count);
    for (int64_t n = part * kPart; n < end; n += 4) {
      const auto block = static_cast<uint64_t>(n / 4);
      const PhiloxCounter words = philox4x32_10(
          {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 7}}, key);
      for (int64_t i = n; i < std::min(n + 4, end); ++i) {
        use(i, words.word[i - n]);
      }
    }
  });
}

// Calls with a value of the element type of a tensor that is f32 or bf16.
template <typename Call>
void with_element_type(DType dtype, Call&& call) {
  SF_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "{} in a benchmark", dtype_name(dtype));
  dtype == DType::kF32 ? call(float{}) : call(Bf16{});
}
void put(float& to, double value) { to = static_cast<float>(value); }
void put(Bf16& to, double value) { to = to_bf16(static_cast<float>(value)); }
double value_of(float value) { return static_cast<double>(value); }
double value_of(Bf16 value) { return static_cast<double>(from_bf16(value)); }

template <typename T>
std::vector<double> widened(const HostView& host) {
  return {host.as<T>(), host.as<T>() + host.view().elements()};
}
template <>
std::vector<double> widened<Bf16>(const HostView& host) {
  std::vector<double> values(static_cast<std::size_t>(host.view().elements()));
  std::transform(host.as<Bf16>(), host.as<Bf16>() + host.view().elements(), values.begin(),
                 [](Bf16 value) { return value_of(value); });
  return values;
}

}  // namespace

Tensor random_tensor(const ExecutionContext& ctx, const Shape& shape, uint64_t seed, double low,
                     double high, DType dtype) {
  Tensor tensor = device_tensor(ctx, shape, dtype);
  write_on_host(ctx, tensor.view(), [&](const TensorView& host) {
    with_element_type(dtype, [&]<typename T>(T /*type*/) {
      auto* to = host.as<T>();
      for_each_random_word(ctx, host.elements(), seed, [&](int64_t n, uint32_t word) {
        put(to[n], low + (high - low) * static_cast<double>(word) * 0x1p-32);
      });
    });
  });
  return tensor;
}

Tensor random_mask(const ExecutionContext& ctx, const Shape& shape, uint64_t seed, double ones) {
  Tensor tensor = device_tensor(ctx, shape, DType::kU8);
  write_on_host(ctx, tensor.view(), [&](const TensorView& host) {
    auto* to = host.as<uint8_t>();
    for_each_random_word(ctx, host.elements(), seed, [&](int64_t n, uint32_t word) {
      to[n] = static_cast<double>(word) * 0x1p-32 < ones ? 1 : 0;
    });
  });
  return tensor;
}

Tensor tensor_of(const ExecutionContext& ctx, const Shape& shape, std::span<const double> values,
                 DType dtype) {
  Tensor tensor = device_tensor(ctx, shape, dtype);
  SF_CHECK(values.size() == static_cast<std::size_t>(tensor.elements()), "{} values for {}",
           values.size(), shape.to_string());
  write_on_host(ctx, tensor.view(), [&](const TensorView& host) {
    if (dtype == DType::kF64) {
      std::copy(values.begin(), values.end(), host.as<double>());
    } else if (dtype == DType::kI32) {
      std::transform(values.begin(), values.end(), host.as<int32_t>(),
                     [](double value) { return static_cast<int32_t>(value); });
    } else {
      with_element_type(dtype, [&]<typename T>(T /*type*/) {
        auto* to = host.as<T>();
        for (std::size_t i = 0; i < values.size(); ++i) {
          put(to[i], values[i]);
        }
      });
    }
  });
  return tensor;
}

Tensor zero_tensor(const ExecutionContext& ctx, const Shape& shape, DType dtype) {
  Tensor tensor = device_tensor(ctx, shape, dtype);
  ctx.stream().fill(tensor.view().data(), 0, tensor.bytes());
  return tensor;
}

Tensor output_tensor(const ExecutionContext& ctx, const Shape& shape, DType dtype) {
  Tensor tensor = device_tensor(ctx, shape, dtype);
  ctx.stream().fill(tensor.view().data(), 0xFF, tensor.bytes());
  return tensor;
}

std::vector<double> values_of(const ExecutionContext& ctx, const Tensor& tensor) {
  const HostView host(ctx, tensor.view());
  switch (tensor.dtype()) {
    case DType::kF64:
      return widened<double>(host);
    case DType::kU8:
      return widened<uint8_t>(host);
    case DType::kBF16:
      return widened<Bf16>(host);
    default:
      return widened<float>(host);
  }
}

std::vector<double> some_rows(const ExecutionContext& ctx, const Tensor& matrix, int64_t step) {
  const HostView host(ctx, matrix.view());
  std::vector<double> values;
  const int64_t columns = matrix.shape()[1];
  with_element_type(matrix.dtype(), [&]<typename T>(T /*type*/) {
    for (int64_t row = 0; row < matrix.shape()[0]; row += step) {
      const T* at = host.as<T>() + row * columns;
      std::transform(at, at + columns, std::back_inserter(values),
                     [](T value) { return value_of(value); });
    }
  });
  return values;
}

std::vector<double> some_columns(const ExecutionContext& ctx, const Tensor& matrix, int64_t step) {
  const HostView host(ctx, matrix.view());
  std::vector<double> values;
  const int64_t columns = matrix.shape()[1];
  with_element_type(matrix.dtype(), [&]<typename T>(T /*type*/) {
    for (int64_t row = 0; row < matrix.shape()[0]; ++row) {
      for (int64_t column = 0; column < columns; column += step) {
        values.push_back(value_of(host.as<T>()[row * columns + column]));
      }
    }
  });
  return values;
}

}  // namespace stemfabric::benchmarks
