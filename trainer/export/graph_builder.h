// What the graph of a model is made of, for any format that stores graphs. model_graph.h writes the
// model once in these operations; onnx_graph.h and tfjs_graph.h say them in their format's words.
//
// A value is the name of a tensor in the graph. Sizes: B samples and T tokens are open, everything
// else is fixed. "rows" are the tokens of all samples with n columns each; whether a format keeps
// them as [B, T, n] or [B·T, n] is its own affair. "heads" are [B, H, T, D], "weights" [B, H, T,
// T].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/core/tensor_view.h"

namespace stemfabric {

enum class GraphUnary : uint8_t { kRelu, kSigmoid, kTanh };
enum class GraphBinary : uint8_t { kAdd, kSubtract, kMultiply, kDivide };

// Names of the graph's inputs; its outputs are named by the stems.
inline constexpr const char* kGraphFeatures = "stem_features";  // [B, T, F] f32
inline constexpr const char* kGraphMask = "mask";               // [B, T] f32, 1 = token present

// "integers.1.256": of a constant that holds these.
std::string name_of_integers(const std::vector<int64_t>& values);

class GraphBuilder {
 public:
  using Value = std::string;

  GraphBuilder() = default;
  virtual ~GraphBuilder() = default;
  GraphBuilder(const GraphBuilder&) = delete;
  GraphBuilder& operator=(const GraphBuilder&) = delete;

  // What the names of the operations that follow begin with.
  virtual void enter(const std::string& scope) = 0;

  virtual Value constant(const std::string& name, const ConstTensorView& values) = 0;  // f32
  virtual Value scalar(float value) = 0;
  virtual Value features() = 0;  // rows of F columns
  virtual Value key_mask() = 0;  // [B, 1, 1, T]

  virtual Value unary(GraphUnary operation, const Value& x) = 0;
  // Sizes of 1 are stretched, as in NumPy; a vector of n meets the columns of rows.
  virtual Value binary(GraphBinary operation, const Value& a, const Value& b) = 0;
  // Over the last axis; sum and largest keep it, with size 1.
  virtual Value softmax(const Value& x) = 0;
  virtual Value sum(const Value& x) = 0;
  virtual Value largest(const Value& x) = 0;
  virtual Value layer_norm(const Value& rows, const Value& gamma, const Value& beta,
                           float epsilon) = 0;

  virtual Value product(const Value& rows, const Value& kernel) = 0;  // rows · [in, out]
  // The first T rows of a table [L, n]; the graph fails on T > L.
  virtual Value first_rows(const Value& table) = 0;
  virtual Value add_to_tokens(const Value& rows, const Value& table_rows) = 0;
  virtual Value split_heads(const Value& rows) = 0;
  virtual Value join_heads(const Value& heads) = 0;
  virtual Value columns(const Value& heads, int64_t begin, int64_t count) = 0;
  virtual Value beside(const Value& left, const Value& right) = 0;  // columns of heads joined
  virtual Value scores(const Value& q, const Value& k) = 0;         // q kᵀ
  virtual Value weighted(const Value& weights, const Value& v) = 0;

  virtual void output(const std::string& name, const Value& rows) = 0;
};

}  // namespace stemfabric
