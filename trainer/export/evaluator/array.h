// Arrays of the graph evaluators and what graphs do with them: plain loops in float32, in the order
// in which a formula is written. No code of the trainer's kernels is used here: an exported file is
// judged by other means than those that trained it. InputErrors, without the name of a file, say
// which shapes do not fit.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace stemfabric::evaluator {

using Sizes = std::vector<int64_t>;

// Row-major; either floats or integers (shapes, axes, places).
struct Array {
  Sizes shape;
  std::vector<float> values;
  std::vector<int64_t> integers;
  bool is_integer = false;

  static Array of(Sizes shape, std::vector<float> values);
  static Array of_integers(Sizes shape, std::vector<int64_t> values);

  int64_t size() const;  // of the shape
  int64_t last() const { return shape.empty() ? 1 : shape.back(); }
};

std::string to_string(const Sizes& sizes);  // "[2, 3]"
// The product, checked against overflow and negative sizes.
int64_t elements_of(const Sizes& sizes);
// −1 is the last one.
std::size_t axis_of(int64_t axis, std::size_t rank);

float relu(float x);  // NaN stays
float sigmoid(float x);
float hyperbolic_tangent(float x);
float larger(float a, float b);

Array map(const Array& x, const std::function<float(float)>& f);
// Sizes of 1 and missing leading sizes are stretched, as in NumPy.
Array combine(const Array& a, const Array& b, const std::function<float(float, float)>& f);
// Over the last axis. reduce: starts with the first element and keeps the axis, with size 1.
Array softmax(const Array& x);
Array reduce(const Array& x, const std::function<float(float, float)>& f);
Array mean(const Array& x);
// (x − mean) / √(variance + ε) · gamma + beta, the variance over all elements of the last axis.
Array layer_norm(const Array& x, const Array& gamma, const Array& beta, float epsilon);
// [..., n, k] · [..., k, m], or [..., m, k] transposed; leading sizes are stretched.
Array product(const Array& a, const Array& b, bool transpose_b);

Array reshape(const Array& x, Sizes shape);  // one size may be −1
Array transpose(const Array& x, const Sizes& permutation);
Array slice(const Array& x, const Sizes& begin, const Sizes& size);  // each within the array
Array concatenate(const std::vector<const Array*>& parts, int64_t axis);
Array expand(const Array& x, const Sizes& axes);  // sizes of 1 at these places of the result

}  // namespace stemfabric::evaluator
