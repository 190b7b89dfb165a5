#include "tests/oracles/attention_oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "runtime/core/bf16.h"

namespace stemfabric::test {
namespace {

// How the elements of a T x T matrix are kept.
struct AsComputed {
  static constexpr bool kExact = true;
};
struct InBf16 {
  static constexpr bool kExact = false;
};

float nearest_bf16(double x) { return from_bf16(to_bf16(static_cast<float>(x))); }

// One query row of one (batch, head): the weights of all its keys and what they become.
template <typename T, typename Kept = AsComputed>
class Row {
 public:
  Row(const AttentionProblem& p, int64_t b, int64_t h, int64_t i)
      : p_(p), b_(b), h_(h), i_(i), n_(static_cast<std::size_t>(p.tokens)) {
    for (auto* x : {&a_, &inner_, &g_, &dg_, &da_}) {
      x->assign(n_, T{0});
    }
  }

  void run(AttentionResult<T>& out) {
    if (!softmax()) {
      return;
    }
    activate();
    for (std::size_t j = 0; j < n_; ++j) {
      const T weight = kept(j) * g_[j];
      // Where weights are dropped, the constant part of G is no longer a common term of dV.
      const T to_value = p_.keep.empty() ? weight : stored(weight);
      for (int64_t e = 0; e < p_.dim; ++e) {
        at(out.o, i_, e) += weight * value(p_.v, j, e);
        at(out.dv, j, e) += to_value * value(p_.d_o, i_, e);
      }
    }
    differentiate();
    for (std::size_t j = 0; j < n_; ++j) {
      for (int64_t e = 0; e < p_.dim; ++e) {
        at(out.dq, i_, e) += scale() * da_[j] * value(p_.k, j, e);
        at(out.dk, j, e) += scale() * da_[j] * value(p_.q, i_, e);
      }
    }
  }

 private:
  bool open(std::size_t j) const {
    return p_.key_mask.empty() || p_.key_mask[static_cast<std::size_t>(b_ * p_.tokens) + j] != 0;
  }
  T kept(std::size_t j) const {
    if (p_.keep.empty()) {
      return T{1};
    }
    const auto row = static_cast<std::size_t>(((b_ * p_.heads + h_) * p_.tokens + i_) * p_.tokens);
    return p_.keep[row + j] != 0 ? static_cast<T>(p_.keep_scale) : T{0};
  }
  static T stored(T x) {
    if constexpr (Kept::kExact) {
      return x;
    } else {
      return nearest_bf16(x);
    }
  }
  T scale() const { return T{1} / std::sqrt(static_cast<T>(p_.dim)); }
  template <typename Index>
  T value(const std::vector<double>& x, Index t, int64_t e) const {
    return static_cast<T>(
        x[static_cast<std::size_t>(p_.offset(b_, static_cast<int64_t>(t), h_) + e)]);
  }
  template <typename Index>
  T& at(std::vector<T>& x, Index t, int64_t e) const {
    return x[static_cast<std::size_t>(p_.offset(b_, static_cast<int64_t>(t), h_) + e)];
  }

  // a = softmax of x over the open keys, 0 elsewhere; false if there is none.
  bool softmax_of(const std::vector<T>& x, std::vector<T>& a) const {
    T largest = -std::numeric_limits<T>::infinity();
    for (std::size_t j = 0; j < n_; ++j) {
      largest = open(j) ? std::max(largest, x[j]) : largest;
    }
    T sum = 0;
    for (std::size_t j = 0; j < n_; ++j) {
      a[j] = open(j) ? std::exp(x[j] - largest) : T{0};
      sum += a[j];
    }
    for (std::size_t j = 0; j < n_; ++j) {
      a[j] = open(j) ? a[j] / sum : T{0};
    }
    return sum != T{0};
  }

  bool softmax() {
    std::vector<T> scores(n_, T{0});
    for (std::size_t j = 0; j < n_; ++j) {
      for (int64_t e = 0; e < p_.dim && open(j); ++e) {
        scores[j] += value(p_.q, i_, e) * value(p_.k, j, e);
      }
      scores[j] *= scale();
    }
    const bool any = softmax_of(scores, a_);
    for (T& a : a_) {
      a = stored(a);
    }
    return any;
  }

  void activate() {
    if (p_.activation == AttentionActivation::kSoftmax) {
      g_ = a_;
      return;
    }
    const bool centered = p_.activation == AttentionActivation::kSuperpositionCentered;
    softmax_of(a_, inner_);
    for (std::size_t j = 0; j < n_; ++j) {
      if (open(j)) {
        const T sigmoid = T{1} / (T{1} + std::exp(-a_[j]));
        g_[j] = static_cast<T>(p_.alpha) * (centered ? 2 * sigmoid - 1 : sigmoid) +
                static_cast<T>(p_.beta) * std::tanh(a_[j]) + static_cast<T>(p_.gamma) * inner_[j];
      }
    }
    if (p_.activation == AttentionActivation::kSuperpositionNormalized) {
      row_sum_ = std::accumulate(g_.begin(), g_.end(), T{0});
      for (T& g : g_) {
        g /= row_sum_;
      }
    }
    if constexpr (!Kept::kExact) {
      store_weights();
    }
  }

  // G as its value at A = 0, in full, and the rest.
  void store_weights() {
    T z2 = 0;
    for (std::size_t j = 0; j < n_; ++j) {
      z2 += open(j) ? std::exp(a_[j]) : T{0};
    }
    const bool centered = p_.activation == AttentionActivation::kSuperpositionCentered;
    const T at_zero =
        ((centered ? T{0} : static_cast<T>(p_.alpha) / 2) + static_cast<T>(p_.gamma) / z2) /
        row_sum_;
    for (std::size_t j = 0; j < n_; ++j) {
      g_[j] = open(j) ? at_zero + stored(g_[j] - at_zero) : T{0};
    }
  }

  static T dot(const std::vector<T>& x, const std::vector<T>& y) {
    return std::inner_product(x.begin(), x.end(), y.begin(), T{0});
  }

  // da_ becomes the gradient of the scores.
  void differentiate() {
    for (std::size_t j = 0; j < n_; ++j) {
      for (int64_t e = 0; e < p_.dim && open(j); ++e) {
        dg_[j] += value(p_.d_o, i_, e) * value(p_.v, j, e);
      }
      dg_[j] = kept(j) * stored(dg_[j]);
    }
    if (p_.activation == AttentionActivation::kSoftmax) {
      da_ = dg_;
    } else {
      differentiate_activation();
    }
    const T mean = dot(a_, da_);
    for (std::size_t j = 0; j < n_; ++j) {
      da_[j] = open(j) ? stored(a_[j] * (da_[j] - mean)) : T{0};
    }
  }

  void differentiate_activation() {
    if (p_.activation == AttentionActivation::kSuperpositionNormalized) {
      const T mean = dot(g_, dg_);
      for (T& dg : dg_) {
        dg = (dg - mean) / row_sum_;
      }
    }
    const T slope_scale =
        p_.activation == AttentionActivation::kSuperpositionCentered ? T{2} : T{1};
    const T inner_mean = dot(inner_, dg_);
    for (std::size_t j = 0; j < n_; ++j) {
      const T sigmoid = T{1} / (T{1} + std::exp(-a_[j]));
      const T tanh = std::tanh(a_[j]);
      da_[j] = static_cast<T>(p_.alpha) * slope_scale * sigmoid * (1 - sigmoid) * dg_[j] +
               static_cast<T>(p_.beta) * (1 - tanh * tanh) * dg_[j] +
               static_cast<T>(p_.gamma) * inner_[j] * (dg_[j] - inner_mean);
    }
  }

  const AttentionProblem& p_;
  int64_t b_, h_, i_;
  std::size_t n_;
  std::vector<T> a_, inner_, g_, dg_, da_;
  T row_sum_ = 1;
};

template <typename T, typename Kept>
AttentionResult<T> all_rows(const AttentionProblem& p) {
  AttentionResult<T> out;
  for (auto* x : {&out.o, &out.dq, &out.dk, &out.dv}) {
    x->assign(p.q.size(), T{0});
  }
  std::vector<int64_t> rows = p.rows;
  if (rows.empty()) {
    rows.resize(static_cast<std::size_t>(p.tokens));
    std::iota(rows.begin(), rows.end(), 0);
  }
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t i : rows) {
        Row<T, Kept>(p, b, h, i).run(out);
      }
    }
  }
  return out;
}

}  // namespace

template <typename T>
AttentionResult<T> attention_oracle(const AttentionProblem& p) {
  return all_rows<T, AsComputed>(p);
}
template AttentionResult<float> attention_oracle(const AttentionProblem&);
template AttentionResult<double> attention_oracle(const AttentionProblem&);

AttentionResult<float> attention_naive_bf16(const AttentionProblem& p) {
  AttentionResult<float> out = all_rows<float, InBf16>(p);
  for (auto* x : {&out.o, &out.dq, &out.dk, &out.dv}) {
    for (float& value : *x) {
      value = nearest_bf16(value);
    }
  }
  return out;
}

std::vector<uint8_t> attention_keep_oracle(const DropoutConfig& dropout, int64_t batch,
                                           int64_t heads, int64_t tokens) {
  std::vector<uint8_t> keep;
  keep.reserve(static_cast<std::size_t>(batch * heads * tokens * tokens));
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < tokens; ++i) {
        for (int64_t j = 0; j < tokens; ++j) {
          const PhiloxCounter random = philox4x32_10(
              {{static_cast<uint32_t>(i), static_cast<uint32_t>(4 * (j / 32) + j / 2 % 4),
                static_cast<uint32_t>(dropout.sample0 + b), static_cast<uint32_t>(h)}},
              dropout.key);
          const uint32_t lane = philox_lane16(random, static_cast<int>(2 * (j / 8 % 4) + j % 2));
          keep.push_back(lane >= dropout_threshold(dropout.p) ? 1 : 0);
        }
      }
    }
  }
  return keep;
}

}  // namespace stemfabric::test
