// A graph as the evaluators read it out of a file, and how it is run.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "trainer/export/evaluator/array.h"

namespace stemfabric::evaluator {

struct Node {
  std::string name;
  std::string operation;
  std::vector<std::string> inputs;
  std::string output;
  std::map<std::string, Sizes> integers;  // attributes
  std::map<std::string, float> floats;

  // The attribute; InputError if the node has none of that name.
  const Sizes& integers_of(const std::string& attribute) const;
  int64_t integer_of(const std::string& attribute) const;
  int64_t integer_or(const std::string& attribute, int64_t otherwise) const;
  float float_of(const std::string& attribute) const;
};

struct Graph {
  std::vector<Node> nodes;  // each behind those that it reads
  std::map<std::string, Array> constants;
  std::vector<std::string> inputs, outputs;
};

// An array that a file declares: −1 is an open size. InputError that names it if it does not fit.
void check_declared(const std::string& name, const Array& array, const Sizes& declared);

using Operands = std::vector<const Array*>;
using Operations = std::map<std::string, std::function<Array(const Node&, const Operands&)>>;

// Throws unless the node has so many inputs.
void check_count(const Node& node, const Operands& operands, std::size_t least, std::size_t most);

// An operation on each element of one array, or of two.
void add_unary(Operations& table, const std::string& name, float (*f)(float));
void add_binary(Operations& table, const std::string& name,
                const std::function<float(float, float)>& f);

// What both formats name and define alike: Relu, Sigmoid, Tanh, Sub, Mul, Identity.
Operations common_operations();

// Throws unless the axes are the last one alone, and it is kept.
void check_last_axis(const Sizes& axes, const Array& x, int64_t keep);

// The graph's outputs for these inputs. Intermediate results are dropped after their last use.
// InputError that names the node where it fails: an unknown operation, an input that is not there,
// shapes that do not fit.
std::map<std::string, Array> run(const Graph& graph, const Operations& operations,
                                 const std::map<std::string, Array>& feeds);

}  // namespace stemfabric::evaluator
