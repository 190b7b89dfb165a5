#include "tests/support/op_harness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>

#include "kernels/common/philox.h"
#include "runtime/core/bf16.h"

namespace stemfabric::test {
namespace {

constexpr std::byte kGuard{0xFF};  // four or eight of them are a NaN
constexpr std::size_t kGuardBytes = 256;

std::size_t first_element = 1;  // see set_first_element

// Word n of an endless random sequence.
uint32_t random_word(uint64_t seed, int64_t n) {
  const PhiloxKey key = {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  const auto block = static_cast<uint64_t>(n / 4);
  return philox4x32_10({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 7}},
                       key)
      .word[n % 4];
}

template <typename T>
T load_bits(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
template <typename T>
void store_bits(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof(T));
}

template <typename T>
double load(const std::byte* from) {
  return static_cast<double>(load_bits<T>(from));
}

template <typename T>
void store(std::byte* to, double value) {
  store_bits(to, static_cast<T>(value));
}

}  // namespace

std::vector<double> rounded_to_bf16(std::span<const double> values) {
  std::vector<double> rounded;
  for (const double value : values) {
    rounded.push_back(static_cast<double>(round_to_bf16(static_cast<float>(value))));
  }
  return rounded;
}

void set_first_element(int elements) { first_element = static_cast<std::size_t>(elements); }

GuardedTensor::GuardedTensor(const Shape& shape, DType dtype, const Layout& layout) {
  std::vector<int> order = layout.order;
  if (order.empty()) {
    order.resize(static_cast<std::size_t>(shape.rank()));
    std::iota(order.begin(), order.end(), 0);
  }
  SF_CHECK(order.size() == static_cast<std::size_t>(shape.rank()), "layout of {}",
           shape.to_string());
  TensorView::Strides strides{};
  int64_t stride = 1;
  for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
    strides[static_cast<std::size_t>(*axis)] = stride;
    stride = stride * shape[*axis] + (axis == order.rbegin() ? layout.row_gap : 0);
  }
  const std::size_t size = dtype_size(dtype);
  const std::size_t span = static_cast<std::size_t>(stride) * size;
  memory_.assign(span + 2 * kGuardBytes + 64, kGuard);
  const auto address = reinterpret_cast<uintptr_t>(memory_.data()) + kGuardBytes;
  const std::size_t first = kGuardBytes + (64 - address % 64) % 64 + first_element * size;
  view_ = TensorView(memory_.data() + first, dtype, shape, strides);
  is_element_.assign(memory_.size(), false);
  for (int64_t i = 0; i < elements(); ++i) {
    const auto at = static_cast<std::ptrdiff_t>(element(i) - memory_.data());
    std::fill_n(is_element_.begin() + at, size, true);
  }
}

GuardedTensor::~GuardedTensor() {
  if (!intact()) {
    ADD_FAILURE() << "memory outside the elements of a tensor of shape "
                  << view_.shape().to_string() << " was written";
  }
}

GuardedTensor GuardedTensor::random(const Shape& shape, uint64_t seed, double low, double high,
                                    const Layout& layout, DType dtype) {
  GuardedTensor tensor(shape, dtype, layout);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    tensor.set(i, low + (high - low) * static_cast<double>(random_word(seed, i)) * 0x1p-32);
  }
  return tensor;
}

GuardedTensor GuardedTensor::random_mask(const Shape& shape, uint64_t seed, double ones,
                                         const Layout& layout) {
  GuardedTensor tensor(shape, DType::kU8, layout);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    tensor.set(i, static_cast<double>(random_word(seed, i)) * 0x1p-32 < ones ? 1 : 0);
  }
  return tensor;
}

GuardedTensor GuardedTensor::filled(const Shape& shape, DType dtype, double value,
                                    const Layout& layout) {
  GuardedTensor tensor(shape, dtype, layout);
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    tensor.set(i, value);
  }
  return tensor;
}

std::byte* GuardedTensor::element(int64_t index) const {
  int64_t offset = 0;
  for (int axis = view_.rank() - 1; axis >= 0; --axis) {
    offset += index % view_.dim(axis) * view_.stride(axis);
    index /= view_.dim(axis);
  }
  return static_cast<std::byte*>(view_.data()) +
         offset * static_cast<int64_t>(dtype_size(view_.dtype()));
}

std::vector<std::byte> GuardedTensor::bytes() const {
  wait_for_ops();
  return {memory_.begin(), memory_.end()};
}

double GuardedTensor::get(int64_t index) const {
  wait_for_ops();
  const std::byte* at = element(index);
  switch (view_.dtype()) {
    case DType::kF32:
      return load<float>(at);
    case DType::kBF16:
      return static_cast<double>(from_bf16(load_bits<Bf16>(at)));
    case DType::kF64:
      return load<double>(at);
    case DType::kU8:
      return load<uint8_t>(at);
    case DType::kI32:
      return load<int32_t>(at);
    default:
      throw InternalError("GuardedTensor does not read {}", dtype_name(view_.dtype()));
  }
}

void GuardedTensor::set(int64_t index, double value) {
  wait_for_ops();
  std::byte* at = element(index);
  switch (view_.dtype()) {
    case DType::kF32:
      return store<float>(at, value);
    case DType::kBF16:
      return store_bits(at, to_bf16(static_cast<float>(value)));
    case DType::kF64:
      return store<double>(at, value);
    case DType::kU8:
      return store<uint8_t>(at, value);
    case DType::kI32:
      return store<int32_t>(at, value);
    default:
      throw InternalError("GuardedTensor does not write {}", dtype_name(view_.dtype()));
  }
}

std::vector<double> GuardedTensor::values() const {
  std::vector<double> values(static_cast<std::size_t>(elements()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = get(static_cast<int64_t>(i));
  }
  return values;
}

void GuardedTensor::assign(std::span<const double> values) {
  SF_CHECK(values.size() == static_cast<std::size_t>(elements()), "{} values for {} elements",
           values.size(), elements());
  for (std::size_t i = 0; i < values.size(); ++i) {
    set(static_cast<int64_t>(i), values[i]);
  }
}

bool GuardedTensor::intact() const {
  wait_for_ops();
  for (std::size_t i = 0; i < memory_.size(); ++i) {
    if (!is_element_[i] && memory_[i] != kGuard) {
      return false;
    }
  }
  return true;
}

void GuardedTensor::restore(const std::vector<std::byte>& bytes) {
  SF_CHECK(bytes.size() == memory_.size());
  wait_for_ops();
  std::copy(bytes.begin(), bytes.end(), memory_.begin());  // in place: views stay valid
}

void run_repeatably(const std::vector<GuardedTensor*>& outputs,
                    const std::function<void(const ExecutionContext&)>& op) {
  std::vector<std::vector<std::byte>> initial;
  initial.reserve(outputs.size());
  for (const GuardedTensor* output : outputs) {
    initial.push_back(output->bytes());
  }
  std::vector<std::vector<std::byte>> first(outputs.size());
  for (int threads : {1, 2, 3}) {
    for (int round = 0; round < 2; ++round) {
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        outputs[i]->restore(initial[i]);
      }
      op(test_context(threads));
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (first[i].empty()) {
          first[i] = outputs[i]->bytes();
        }
        EXPECT_TRUE(outputs[i]->bytes() == first[i])
            << "output " << i << " of shape " << outputs[i]->view().shape().to_string()
            << " has other bits with " << threads << " threads, run " << round + 1;
      }
    }
  }
}

void expect_gradient(const std::string& what, std::span<double> point,
                     const std::function<double()>& f, std::span<const double> analytic,
                     const GradientCheck& check) {
  ASSERT_EQ(point.size(), analytic.size()) << what;
  ASSERT_FALSE(point.empty()) << what;
  double scale = std::abs(f());
  for (double g : analytic) {
    ASSERT_TRUE(std::isfinite(g)) << what;
    scale = std::max(scale, std::abs(g));
  }
  const auto n = static_cast<int64_t>(point.size());
  const int64_t samples = std::min<int64_t>(n, check.samples);
  for (int64_t s = 0; s < samples; ++s) {
    const int64_t pick = samples == n ? s : random_word(check.seed, s) % n;
    const auto i = static_cast<std::size_t>(pick);
    const double x = point[i];
    const auto at = [&](double offset) {
      point[i] = x + offset;
      return f();
    };
    const double h = check.step;
    const double numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    point[i] = x;
    EXPECT_NEAR(numeric, analytic[i], check.tolerance * scale) << what << ", coordinate " << i;
  }
}

void expect_non_finite_exactly(const std::string& what, std::span<const double> values,
                               const std::function<bool(int64_t)>& spoiled) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool expected = spoiled(static_cast<int64_t>(i));
    ASSERT_EQ(!std::isfinite(values[i]), expected)
        << what << ": element " << i << " is " << values[i]
        << (expected ? ", but must not be finite" : ", but must be finite");
  }
}

void expect_contract_error(const std::vector<std::string>& parts,
                           const std::function<void()>& call) {
  try {
    call();
  } catch (const InternalError& error) {
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "'" << part << "' is not in: " << error.what();
    }
    return;
  }
  ADD_FAILURE() << "no InternalError that says " << parts.front();
}

}  // namespace stemfabric::test
