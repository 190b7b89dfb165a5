#include "tests/oracles/model_oracle.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/common/philox.h"

namespace stemfabric::test {

namespace {

std::size_t z(int64_t i) { return static_cast<std::size_t>(i); }
template <typename T>
T sigmoid(T x) {
  return T{1} / (T{1} + std::exp(-x));
}

// One forward pass; rows are tokens, m = b·T + t.
template <typename T>
struct Pass {
  using Vector = std::vector<T>;

  const ModelOracle& model;
  const ModelConfig& c;
  const std::vector<double>& mask;
  int64_t batch;
  int64_t tokens;

  int64_t rows() const { return batch * tokens; }
  Vector parameter(const std::string& name) const {
    const auto it = model.parameters.find(name);
    if (it == model.parameters.end()) {
      throw std::runtime_error("oracle has no parameter " + name);
    }
    return {it->second.begin(), it->second.end()};
  }
  bool attendable(int64_t b, int64_t t) const {
    return mask.empty() || mask[z(b * tokens + t)] != 0;
  }

  Vector dense(const Vector& x, const std::string& name, int64_t in, int64_t out) const {
    const Vector kernel = parameter(name + ".kernel");
    const Vector bias = parameter(name + ".bias");
    Vector y(z(rows() * out));
    for (int64_t m = 0; m < rows(); ++m) {
      for (int64_t n = 0; n < out; ++n) {
        T sum = bias[z(n)];
        for (int64_t k = 0; k < in; ++k) {
          sum += x[z(m * in + k)] * kernel[z(k * out + n)];
        }
        y[z(m * out + n)] = sum;
      }
    }
    return y;
  }

  Vector layer_norm(const Vector& x, const std::string& name) const {
    const Vector gamma = parameter(name + ".gamma");
    const Vector beta = parameter(name + ".beta");
    Vector y(x.size());
    for (int64_t m = 0; m < rows(); ++m) {
      T mean = 0;
      T variance = 0;
      for (int64_t i = 0; i < c.dim; ++i) {
        mean += x[z(m * c.dim + i)] / static_cast<T>(c.dim);
      }
      for (int64_t i = 0; i < c.dim; ++i) {
        variance +=
            (x[z(m * c.dim + i)] - mean) * (x[z(m * c.dim + i)] - mean) / static_cast<T>(c.dim);
      }
      for (int64_t i = 0; i < c.dim; ++i) {
        y[z(m * c.dim + i)] = (x[z(m * c.dim + i)] - mean) /
                                  std::sqrt(variance + static_cast<T>(c.norm_epsilon)) *
                                  gamma[z(i)] +
                              beta[z(i)];
      }
    }
    return y;
  }

  PhiloxKey key(int64_t block, uint32_t purpose) const {
    return philox_launch_key(model.seed, model.step, static_cast<uint32_t>(block), purpose);
  }
  static T kept(const PhiloxCounter& bits, int64_t lane, double p) {
    const double threshold = std::round(65536 * p);
    const double value = philox_lane16(bits, static_cast<int>(lane));
    return value >= threshold ? static_cast<T>(65536.0 / (65536.0 - threshold)) : T{0};
  }

  // residual + dropout(x); purposes: 2 after attention, 3 after the feed-forward layer.
  Vector add(const Vector& residual, const Vector& x, double p, int64_t block,
             uint32_t purpose) const {
    Vector y(x.size());
    for (int64_t m = 0; m < rows(); ++m) {
      for (int64_t i = 0; i < c.dim; ++i) {
        T factor = 1;
        if (model.training && p > 0) {
          const PhiloxCounter bits =
              philox4x32_10({{static_cast<uint32_t>(i / 8), static_cast<uint32_t>(m % tokens),
                              static_cast<uint32_t>(model.sample0 + m / tokens), 0}},
                            key(block, purpose));
          factor = kept(bits, i % 8, p);
        }
        y[z(m * c.dim + i)] = residual[z(m * c.dim + i)] + factor * x[z(m * c.dim + i)];
      }
    }
    return y;
  }

  void rotate(Vector& x) const {
    const int64_t d = c.dim / c.heads;
    for (int64_t m = 0; m < rows(); ++m) {
      for (int64_t h = 0; h < c.heads; ++h) {
        for (int64_t i = 0; i < d / 2; ++i) {
          const double angle =
              static_cast<double>(m % tokens) *
              std::pow(c.rotary_base, -2.0 * static_cast<double>(i) / static_cast<T>(d));
          T& a = x[z(m * c.dim + h * d + i)];
          T& b = x[z(m * c.dim + h * d + i + d / 2)];
          const T cosine = static_cast<T>(std::cos(angle));
          const T sine = static_cast<T>(std::sin(angle));
          const T turned = a * cosine - b * sine;
          b = a * sine + b * cosine;
          a = turned;
        }
      }
    }
  }

  // The weights G of one query from its scores (docs/attention.md); masked keys 0.
  Vector attention_weights(const Vector& scores, int64_t b) const {
    Vector a(z(tokens), T{0});
    T largest = -INFINITY;
    for (int64_t j = 0; j < tokens; ++j) {
      largest = attendable(b, j) ? std::max(largest, scores[z(j)]) : largest;
    }
    if (std::isinf(largest)) {
      return a;
    }
    T sum = 0;
    for (int64_t j = 0; j < tokens; ++j) {
      a[z(j)] = attendable(b, j) ? std::exp(scores[z(j)] - largest) : 0;
      sum += a[z(j)];
    }
    T inner_sum = 0;
    for (int64_t j = 0; j < tokens; ++j) {
      a[z(j)] /= sum;
      inner_sum += attendable(b, j) ? std::exp(a[z(j)]) : 0;
    }
    const std::string& kind = c.attention.activation;
    if (kind == "softmax") {
      return a;
    }
    Vector g(z(tokens), T{0});
    T row_sum = 0;
    for (int64_t j = 0; j < tokens; ++j) {
      if (attendable(b, j)) {
        const T s = kind == "superposition_centered" ? 2 * sigmoid(a[z(j)]) - 1 : sigmoid(a[z(j)]);
        g[z(j)] = static_cast<T>(c.attention.alpha) * s +
                  static_cast<T>(c.attention.beta) * std::tanh(a[z(j)]) +
                  static_cast<T>(c.attention.gamma) * std::exp(a[z(j)]) / inner_sum;
        row_sum += g[z(j)];
      }
    }
    if (kind == "superposition_normalized") {
      std::ranges::for_each(g, [&](T& x) { x /= row_sum; });
    }
    return g;
  }

  T weight_dropout(int64_t block, int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (!model.training || c.attention.dropout <= 0) {
      return 1;
    }
    const PhiloxCounter bits =
        philox4x32_10({{static_cast<uint32_t>(i), static_cast<uint32_t>(4 * (j / 32) + (j / 2) % 4),
                        static_cast<uint32_t>(model.sample0 + b), static_cast<uint32_t>(h)}},
                      key(block, 1));
    return kept(bits, 2 * ((j / 8) % 4) + j % 2, c.attention.dropout);
  }

  Vector attention(const Vector& x, int64_t block) const {
    const std::string name = "blocks." + std::to_string(block) + ".attn.";
    Vector q = dense(x, name + "q", c.dim, c.dim);
    Vector k = dense(x, name + "k", c.dim, c.dim);
    const Vector v = dense(x, name + "v", c.dim, c.dim);
    if (c.positions == "rotary") {
      rotate(q);
      rotate(k);
    }
    const int64_t d = c.dim / c.heads;
    Vector context(x.size(), T{0});
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < c.heads; ++h) {
        const auto at = [&](int64_t t, int64_t i) {
          return z((b * tokens + t) * c.dim + h * d + i);
        };
        for (int64_t i = 0; i < tokens; ++i) {
          Vector scores(z(tokens), T{0});
          for (int64_t j = 0; j < tokens; ++j) {
            for (int64_t e = 0; e < d; ++e) {
              scores[z(j)] += q[at(i, e)] * k[at(j, e)] / std::sqrt(static_cast<T>(d));
            }
          }
          const Vector g = attention_weights(scores, b);
          for (int64_t j = 0; j < tokens; ++j) {
            const T weight = g[z(j)] * weight_dropout(block, b, h, i, j);
            for (int64_t e = 0; e < d; ++e) {
              context[at(i, e)] += weight * v[at(j, e)];
            }
          }
        }
      }
    }
    return dense(context, name + "o", c.dim, c.dim);
  }

  Vector feed_forward(const Vector& x, int64_t block) const {
    const std::string name = "blocks." + std::to_string(block);
    Vector hidden = dense(x, name + ".ff1", c.dim, c.dim_ff);
    std::ranges::for_each(hidden, [](T& h) { h = std::max(h, T{0}); });
    return dense(hidden, name + ".ff2", c.dim_ff, c.dim);
  }

  Vector embed(const std::vector<double>& x) const {
    Vector standardised(x.begin(), x.end());
    for (std::size_t i = 0; i < x.size() && !model.mean.empty(); ++i) {
      const std::size_t f = i % z(c.input_dim);
      standardised[i] =
          (standardised[i] - static_cast<T>(model.mean[f])) * static_cast<T>(model.scale[f]);
    }
    Vector y = dense(standardised, "input", c.input_dim, c.dim);
    if (c.positions == "learned") {
      const Vector pos = parameter("pos");
      for (int64_t m = 0; m < rows(); ++m) {
        for (int64_t i = 0; i < c.dim; ++i) {
          y[z(m * c.dim + i)] += pos[z(m % tokens * c.dim + i)];
        }
      }
    }
    return y;
  }

  Vector encoder(Vector x, std::map<std::string, Vector>& taps) const {
    const bool pre = c.norm_placement == "pre";
    for (int64_t i = 0; i < c.depth; ++i) {
      const std::string name = "blocks." + std::to_string(i) + ".";
      const auto branch = [&](const std::string& norm, const std::string& tap, double p,
                              uint32_t purpose, auto&& function) {
        const Vector input = pre ? layer_norm(x, name + norm) : x;
        const Vector output = function(input);
        x = add(x, output, p, i, purpose);
        if (!pre) {
          x = layer_norm(x, name + norm);
        }
        taps[name + tap] = output;
        taps[name + norm] = pre ? input : x;
      };
      branch("ln1", "attn", c.attn_dropout, 2, [&](const Vector& n) { return attention(n, i); });
      branch("ln2", "ff", c.ff_dropout, 3, [&](const Vector& n) { return feed_forward(n, i); });
    }
    return pre ? layer_norm(x, "final_norm") : x;
  }

  Vector head(const Vector& x, const std::string& stem) const {
    Vector hidden = dense(x, "heads." + stem + ".hidden", c.dim, c.dim);
    std::ranges::for_each(hidden, [](T& h) {
      const T r = std::max(h, T{0});
      h = T(0.4) * sigmoid(r) + T(0.4) * std::tanh(r) + T(0.2) * r;
    });
    return dense(hidden, "heads." + stem + ".out", c.dim, c.output_dim);
  }
};

}  // namespace

template <typename T>
ModelOracle::Result<T> ModelOracle::forward(const std::vector<double>& x,
                                            const std::vector<double>& mask, int64_t batch,
                                            int64_t tokens) const {
  const Pass<T> pass{*this, config, mask, batch, tokens};
  Result<T> result;
  result.taps["embed"] = pass.embed(x);
  const std::vector<T> last = pass.encoder(result.taps["embed"], result.taps);
  for (const char* stem : {"vocals", "drums", "bass", "harmonic", "perc", "sub"}) {
    const std::vector<T> output = pass.head(last, stem);
    result.output.insert(result.output.end(), output.begin(), output.end());
  }
  return result;
}

template ModelOracle::Result<double> ModelOracle::forward<double>(const std::vector<double>&,
                                                                  const std::vector<double>&,
                                                                  int64_t, int64_t) const;
template ModelOracle::Result<float> ModelOracle::forward<float>(const std::vector<double>&,
                                                                const std::vector<double>&, int64_t,
                                                                int64_t) const;

double LossOracle::operator()(const std::vector<double>& prediction, int64_t batch, int64_t tokens,
                              int64_t outputs) const {
  double total = 0;
  for (int64_t s = 0; s < 6; ++s) {
    double sum = 0;
    double count = 0;
    for (int64_t m = 0; m < batch * tokens; ++m) {
      for (int64_t o = 0; o < outputs; ++o) {
        const std::size_t i = z((s * batch * tokens + m) * outputs + o);
        const bool present = (target_mask.empty() || target_mask[i] != 0) &&
                             (key_mask.empty() || key_mask[z(m)] != 0);
        if (present) {
          const double factor = weight.empty() ? 1.0 : weight[z(m / tokens * 6 + s)];
          sum += factor * std::pow(prediction[i] - target[i], 2);
          count += 1;
        }
      }
    }
    total += count > 0 ? sum / count : 0.0;
  }
  return total;
}

}  // namespace stemfabric::test
