// What every test of an op needs. The pieces, in the order of a test:
//
//   GuardedTensor x = GuardedTensor::random({M, C}, /*seed=*/1);   // data, misaligned by one
//   GuardedTensor y({M, C}, DType::kF32);                          // output: all NaN at first
//   run_repeatably({&y}, [&](const ExecutionContext& ctx) {        // 1, 2, 3 threads, twice
//     activation_forward(ctx, {.activation = kRelu, .x = x.view(), .y = y.view()});
//   });                                                            // fails unless bits are equal
//   const auto oracle = relu_oracle<double>(x.values());           // tests/oracles/
//   const auto naive = relu_oracle<float>(x.values());
//   expect_within_bound("y", y.values(), widen(naive), oracle);    // tolerance.h
//   expect_gradient("dx", point, [&] { return loss(point); }, analytic);  // checks the oracle
//
// Bytes before, after and between the elements of a tensor hold a NaN pattern: reading them spoils
// the result, writing them fails the test when the tensor goes out of scope.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/tensor_view.h"
#include "runtime/device/execution_context.h"
#include "tests/support/tolerance.h"

namespace stemfabric::test {

inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInf = std::numeric_limits<double>::infinity();

// How a tensor lies in memory. Default: row-major, no gaps.
struct Layout {
  std::vector<int> order;  // axes from the outermost to the innermost in memory; empty = 0, 1, …
  int64_t row_gap = 0;     // unused elements after each innermost row
};

// Memory that both the ops of test_context() and the test reach, and waiting until the ops are
// done; defined beside test_context().
void* allocate_test_memory(std::size_t bytes);
void free_test_memory(void* memory) noexcept;
void wait_for_ops();

template <typename T>
struct TestMemory {
  using value_type = T;
  TestMemory() = default;
  template <typename U>
  TestMemory(const TestMemory<U>& /*other*/) {}  // NOLINT(google-explicit-constructor)
  T* allocate(std::size_t n) { return static_cast<T*>(allocate_test_memory(n * sizeof(T))); }
  void deallocate(T* memory, std::size_t /*n*/) noexcept { free_test_memory(memory); }
  bool operator==(const TestMemory&) const = default;
};

class GuardedTensor {
 public:
  // All elements NaN (floating point) or 0xFF bytes (integers). The first element lies one element
  // after a 64-byte boundary, unless set_first_element says otherwise.
  GuardedTensor(const Shape& shape, DType dtype, const Layout& layout = {});
  ~GuardedTensor();  // fails the test if a byte that is not an element's was written
  GuardedTensor(GuardedTensor&& other) noexcept = default;
  GuardedTensor& operator=(GuardedTensor&&) = delete;

  // Uniform in [low, high), the same for a seed in every layout; f32, or bf16 (rounded).
  static GuardedTensor random(const Shape& shape, uint64_t seed, double low = -1, double high = 1,
                              const Layout& layout = {}, DType dtype = DType::kF32);
  // u8, 1 with the given probability, else 0.
  static GuardedTensor random_mask(const Shape& shape, uint64_t seed, double ones,
                                   const Layout& layout = {});
  static GuardedTensor filled(const Shape& shape, DType dtype, double value,
                              const Layout& layout = {});

  TensorView view() { return view_; }
  ConstTensorView view() const { return view_; }
  int64_t elements() const { return view_.elements(); }
  // Elements by logical (row-major) index.
  double get(int64_t index) const;
  void set(int64_t index, double value);
  std::vector<double> values() const;
  void assign(std::span<const double> values);
  // Are all bytes outside the elements as they were?
  bool intact() const;

  // All bytes, for comparing bits and putting contents back.
  std::vector<std::byte> bytes() const;
  void restore(const std::vector<std::byte>& bytes);

 private:
  std::byte* element(int64_t index) const;

  std::vector<std::byte, TestMemory<std::byte>> memory_;
  std::vector<bool> is_element_;  // per byte of memory_
  TensorView view_;
};

// What bf16 keeps of each value (as a float).
std::vector<double> rounded_to_bf16(std::span<const double> values);

// How many elements after a 64-byte boundary the first element of the tensors made from now on
// lies; 1 at the start. For the kernels that take another path for aligned memory (simd_levels.h).
void set_first_element(int elements);

// Where the program's ops run, kept for the whole program; every variant must give the same bits.
// Which one it is, the program is linked with (tests/support/contexts, tests/simt): the CPU with
// 1, 2, … threads; a GPU; or the GPU's kernels on the SIMT executor, in another order of threads
// for each variant.
const ExecutionContext& test_context(int variant = 1);
// Is it the SIMT executor? It needs a thousand times as long as a GPU, for the largest cases too
// long.
bool ops_are_emulated();

// Runs `op` with 1, 2 and 3 threads, twice each, from the same initial contents of `outputs`, and
// expects the same bits every time. Afterwards `outputs` hold the result.
void run_repeatably(const std::vector<GuardedTensor*>& outputs,
                    const std::function<void(const ExecutionContext&)>& op);

// Expects the analytic gradient of f with respect to `point` to agree with fourth-order central
// differences, at up to `samples` coordinates. f reads `point`, in float64; `point` is left as it
// was. Difference allowed: tolerance · (largest gradient + |f|), truncation and rounding of the
// stencil at this step.
struct GradientCheck {
  double step = 1e-3;
  double tolerance = 1e-8;
  int samples = 24;
  uint64_t seed = 1;
};
void expect_gradient(const std::string& what, std::span<double> point,
                     const std::function<double()>& f, std::span<const double> analytic,
                     const GradientCheck& check = {});

// NaN and infinity rules: exactly the elements for which `spoiled(index)` holds are not finite.
void expect_non_finite_exactly(const std::string& what, std::span<const double> values,
                               const std::function<bool(int64_t)>& spoiled);

// Runs `call` and expects an InternalError whose text holds every one of `parts`: the op, the
// argument at fault and its shape.
void expect_contract_error(const std::vector<std::string>& parts,
                           const std::function<void()>& call);

}  // namespace stemfabric::test
