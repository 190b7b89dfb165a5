#include "trainer/export/evaluator/array.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/check.h"

namespace stemfabric::evaluator {
namespace {

// Steps from element to element along each axis.
Sizes strides_of(const Sizes& shape) {
  Sizes strides(shape.size());
  int64_t step = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = step;
    step *= shape[axis];
  }
  return strides;
}

// Calls f(place) for each element of `shape` in row-major order; place moves by `strides`.
template <typename F>
void walk(const Sizes& shape, const Sizes& strides, int64_t start, F f) {
  const int64_t count = elements_of(shape);
  Sizes index(shape.size(), 0);
  int64_t place = start;
  for (int64_t i = 0; i < count; ++i) {
    f(place);
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      place += strides[axis];
      if (++index[axis] < shape[axis]) {
        break;
      }
      place -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

// The elements of x at the places of such a walk.
Array picked(const Array& x, const Sizes& shape, const Sizes& strides, int64_t start) {
  Array out{.shape = shape, .values = {}, .integers = {}, .is_integer = x.is_integer};
  const auto count = static_cast<std::size_t>(elements_of(shape));
  if (x.is_integer) {
    out.integers.reserve(count);
    walk(shape, strides, start, [&](int64_t place) {
      out.integers.push_back(x.integers[static_cast<std::size_t>(place)]);
    });
  } else {
    out.values.reserve(count);
    walk(shape, strides, start,
         [&](int64_t place) { out.values.push_back(x.values[static_cast<std::size_t>(place)]); });
  }
  return out;
}

Sizes stretched_shape(const Sizes& a, const Sizes& b) {
  Sizes shape(std::max(a.size(), b.size()));
  for (std::size_t i = 0; i < shape.size(); ++i) {  // from the last axis
    const int64_t m = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t n = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (m != n && m != 1 && n != 1) {
      throw InputError("shapes {} and {} do not go together", to_string(a), to_string(b));
    }
    shape[shape.size() - 1 - i] = m == 1 ? n : m;
  }
  return shape;
}

// Strides in x for a walk over `shape`: 0 along stretched axes.
Sizes stretched_strides(const Sizes& x, const Sizes& shape) {
  const Sizes own = strides_of(x);
  Sizes strides(shape.size(), 0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t axis = shape.size() - x.size() + i;
    strides[axis] = x[i] == 1 ? 0 : own[i];
  }
  return strides;
}

void check_floats(const Array& x) {
  if (x.is_integer) {
    throw InputError("an array {} of integers where floats are wanted", to_string(x.shape));
  }
}

// f(begin) for the place of each run along the last axis.
template <typename F>
void for_each_row(const Array& x, F f) {
  check_floats(x);
  if (x.shape.empty() || x.last() < 1) {
    throw InputError("an array {} has no last axis to go along", to_string(x.shape));
  }
  for (int64_t begin = 0; begin < x.size(); begin += x.last()) {
    f(static_cast<std::size_t>(begin));
  }
}

// c[n, m] += a[n, k] · b; b is [k, m] or, transposed, [m, k].
void multiply(const float* a, const float* b, float* c, int64_t n, int64_t k, int64_t m,
              bool transpose_b) {
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t p = 0; p < k; ++p) {
      const float factor = a[i * k + p];
      const float* row = transpose_b ? b + p : b + p * m;
      const int64_t step = transpose_b ? k : 1;
      for (int64_t j = 0; j < m; ++j) {
        c[i * m + j] += factor * row[j * step];
      }
    }
  }
}

}  // namespace

std::string to_string(const Sizes& sizes) {
  std::string text = "[";
  for (const int64_t size : sizes) {
    text += fmt::format("{}{}", text.size() > 1 ? ", " : "", size);
  }
  text += ']';
  return text;
}

int64_t elements_of(const Sizes& sizes) {
  int64_t count = 1;
  for (const int64_t size : sizes) {
    if (size < 0 || (size > 0 && count > std::numeric_limits<int32_t>::max() / size)) {
      throw InputError("a shape of {} is none, or too large", to_string(sizes));
    }
    count *= size;
  }
  return count;
}

std::size_t axis_of(int64_t axis, std::size_t rank) {
  const auto n = static_cast<int64_t>(rank);
  if (axis < -n || axis >= n) {
    throw InputError("axis {} of an array of {} axes", axis, rank);
  }
  return static_cast<std::size_t>(axis < 0 ? axis + n : axis);
}

int64_t Array::size() const { return elements_of(shape); }

Array Array::of(Sizes shape, std::vector<float> values) {
  if (elements_of(shape) != static_cast<int64_t>(values.size())) {
    throw InputError("{} values for the shape {}", values.size(), to_string(shape));
  }
  return {.shape = std::move(shape), .values = std::move(values), .integers = {}};
}

Array Array::of_integers(Sizes shape, std::vector<int64_t> values) {
  if (elements_of(shape) != static_cast<int64_t>(values.size())) {
    throw InputError("{} values for the shape {}", values.size(), to_string(shape));
  }
  return {
      .shape = std::move(shape), .values = {}, .integers = std::move(values), .is_integer = true};
}

float relu(float x) { return x < 0.0F ? 0.0F : x; }
float sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }
float hyperbolic_tangent(float x) { return std::tanh(x); }
float larger(float a, float b) { return std::max(a, b); }

Array map(const Array& x, const std::function<float(float)>& f) {
  check_floats(x);
  Array out = x;
  std::ranges::transform(out.values, out.values.begin(), f);
  return out;
}

Array combine(const Array& a, const Array& b, const std::function<float(float, float)>& f) {
  check_floats(a);
  check_floats(b);
  const Sizes shape = stretched_shape(a.shape, b.shape);
  Array out = picked(a, shape, stretched_strides(a.shape, shape), 0);
  std::size_t i = 0;
  walk(shape, stretched_strides(b.shape, shape), 0, [&](int64_t place) {
    out.values[i] = f(out.values[i], b.values[static_cast<std::size_t>(place)]);
    ++i;
  });
  return out;
}

Array softmax(const Array& x) {
  Array out = x;
  for_each_row(x, [&](std::size_t begin) {
    const auto first = out.values.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto end = first + x.last();
    const float largest = *std::max_element(first, end);
    float sum = 0.0F;
    for (auto it = first; it != end; ++it) {
      *it = std::exp(*it - largest);
      sum += *it;
    }
    std::for_each(first, end, [sum](float& value) { value /= sum; });
  });
  return out;
}

Array reduce(const Array& x, const std::function<float(float, float)>& f) {
  Array out{.shape = x.shape, .values = {}, .integers = {}};
  for_each_row(x, [&](std::size_t begin) {
    float value = x.values[begin];
    for (std::size_t i = 1; i < static_cast<std::size_t>(x.last()); ++i) {
      value = f(value, x.values[begin + i]);
    }
    out.values.push_back(value);
  });
  out.shape.back() = 1;
  return out;
}

Array mean(const Array& x) {
  Array out = reduce(x, std::plus<>());
  for (float& value : out.values) {
    value /= static_cast<float>(x.last());
  }
  return out;
}

Array layer_norm(const Array& x, const Array& gamma, const Array& beta, float epsilon) {
  const Array centred = combine(x, mean(x), std::minus<>());
  const Array variance = mean(map(centred, [](float v) { return v * v; }));
  const Array deviation = map(variance, [epsilon](float v) { return std::sqrt(v + epsilon); });
  const Array normed = combine(centred, deviation, std::divides<>());
  return combine(combine(normed, gamma, std::multiplies<>()), beta, std::plus<>());
}

Array product(const Array& a, const Array& b, bool transpose_b) {
  check_floats(a);
  check_floats(b);
  if (a.shape.size() < 2 || b.shape.size() < 2) {
    throw InputError("a product of {} and {}", to_string(a.shape), to_string(b.shape));
  }
  const int64_t n = a.shape[a.shape.size() - 2];
  const int64_t k = a.last();
  const int64_t m = transpose_b ? b.shape[b.shape.size() - 2] : b.last();
  if ((transpose_b ? b.last() : b.shape[b.shape.size() - 2]) != k) {
    throw InputError("a product of {} and {}{}", to_string(a.shape), to_string(b.shape),
                     transpose_b ? " transposed" : "");
  }
  const Sizes a_leading(a.shape.begin(), a.shape.end() - 2);
  const Sizes b_leading(b.shape.begin(), b.shape.end() - 2);
  Sizes shape = stretched_shape(a_leading, b_leading);
  std::vector<int64_t> a_places;
  std::vector<int64_t> b_places;
  walk(shape, stretched_strides(a_leading, shape), 0, [&](int64_t p) { a_places.push_back(p); });
  walk(shape, stretched_strides(b_leading, shape), 0, [&](int64_t p) { b_places.push_back(p); });
  shape.insert(shape.end(), {n, m});
  Array out{.shape = shape, .values = {}, .integers = {}};
  out.values.resize(static_cast<std::size_t>(out.size()), 0.0F);
  for (std::size_t i = 0; i < a_places.size(); ++i) {
    multiply(a.values.data() + a_places[i] * n * k, b.values.data() + b_places[i] * k * m,
             out.values.data() + static_cast<int64_t>(i) * n * m, n, k, m, transpose_b);
  }
  return out;
}

Array reshape(const Array& x, Sizes shape) {
  const auto open = std::ranges::find(shape, -1);
  if (open != shape.end()) {
    *open = 1;
    const int64_t rest = elements_of(shape);
    *open = rest > 0 ? x.size() / rest : 0;
  }
  if (elements_of(shape) != x.size()) {
    throw InputError("an array {} cannot become {}", to_string(x.shape), to_string(shape));
  }
  Array out = x;
  out.shape = std::move(shape);
  return out;
}

Array transpose(const Array& x, const Sizes& permutation) {
  Sizes sorted = permutation;
  std::ranges::sort(sorted);
  Sizes axes(x.shape.size());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    axes[i] = static_cast<int64_t>(i);
  }
  if (sorted != axes) {
    throw InputError("{} is no order of the axes of {}", to_string(permutation),
                     to_string(x.shape));
  }
  const Sizes own = strides_of(x.shape);
  Sizes shape;
  Sizes strides;
  for (const int64_t axis : permutation) {
    shape.push_back(x.shape[static_cast<std::size_t>(axis)]);
    strides.push_back(own[static_cast<std::size_t>(axis)]);
  }
  return picked(x, shape, strides, 0);
}

Array slice(const Array& x, const Sizes& begin, const Sizes& size) {
  const Sizes strides = strides_of(x.shape);
  int64_t start = 0;
  bool inside = begin.size() == x.shape.size() && size.size() == x.shape.size();
  for (std::size_t i = 0; inside && i < x.shape.size(); ++i) {
    inside =
        begin[i] >= 0 && size[i] >= 0 && begin[i] <= x.shape[i] && size[i] <= x.shape[i] - begin[i];
    start += begin[i] * strides[i];
  }
  if (!inside) {
    throw InputError("a slice of {} at {} is not within {}", to_string(size), to_string(begin),
                     to_string(x.shape));
  }
  return picked(x, size, strides, start);
}

Array concatenate(const std::vector<const Array*>& parts, int64_t axis) {
  if (parts.empty()) {
    throw InputError("nothing to concatenate");
  }
  Array out{
      .shape = parts[0]->shape, .values = {}, .integers = {}, .is_integer = parts[0]->is_integer};
  const std::size_t at = axis_of(axis, out.shape.size());
  out.shape[at] = 0;
  for (const Array* part : parts) {
    Sizes expected = out.shape;
    if (part->shape.size() == expected.size()) {
      expected[at] = part->shape[at];
    }
    if (part->shape != expected || part->is_integer != out.is_integer) {
      throw InputError("{} cannot be put beside {}", to_string(part->shape),
                       to_string(parts[0]->shape));
    }
    out.shape[at] += part->shape[at];
  }
  const Sizes outer(out.shape.begin(), out.shape.begin() + static_cast<std::ptrdiff_t>(at));
  for (int64_t row = 0; row < elements_of(outer); ++row) {
    for (const Array* part : parts) {
      const int64_t run =
          elements_of({part->shape.begin() + static_cast<std::ptrdiff_t>(at), part->shape.end()});
      const auto append = [row, run](const auto& from, auto& to) {
        to.insert(to.end(), from.begin() + row * run, from.begin() + (row + 1) * run);
      };
      out.is_integer ? append(part->integers, out.integers) : append(part->values, out.values);
    }
  }
  return out;
}

Array expand(const Array& x, const Sizes& axes) {
  const std::size_t rank = x.shape.size() + axes.size();
  std::vector<bool> is_new(rank, false);
  for (const int64_t axis : axes) {
    is_new[axis_of(axis, rank)] = true;
  }
  Sizes shape;
  std::size_t next = 0;
  for (std::size_t i = 0; i < rank; ++i) {
    if (!is_new[i] && next == x.shape.size()) {
      throw InputError("axes {} name a place twice", to_string(axes));
    }
    shape.push_back(is_new[i] ? 1 : x.shape[next++]);
  }
  return reshape(x, shape);
}

}  // namespace stemfabric::evaluator
