#include "trainer/export/evaluator/graph.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace stemfabric::evaluator {
namespace {

template <typename T>
const T& attribute_of(const std::map<std::string, T>& attributes, const std::string& name) {
  const auto found = attributes.find(name);
  if (found == attributes.end()) {
    throw InputError("the attribute '{}' is missing", name);
  }
  return found->second;
}

}  // namespace

const Sizes& Node::integers_of(const std::string& attribute) const {
  return attribute_of(integers, attribute);
}

int64_t Node::integer_of(const std::string& attribute) const {
  const Sizes& values = integers_of(attribute);
  if (values.size() != 1) {
    throw InputError("the attribute '{}' holds {} numbers, not one", attribute, values.size());
  }
  return values.front();
}

int64_t Node::integer_or(const std::string& attribute, int64_t otherwise) const {
  return integers.contains(attribute) ? integer_of(attribute) : otherwise;
}

float Node::float_of(const std::string& attribute) const { return attribute_of(floats, attribute); }

void check_declared(const std::string& name, const Array& array, const Sizes& declared) {
  const bool fits = std::ranges::equal(
      array.shape, declared, [](int64_t size, int64_t want) { return want == -1 || want == size; });
  if (!fits) {
    throw InputError("'{}' {} is declared as {}", name, to_string(array.shape),
                     to_string(declared));
  }
}

void check_count(const Node& node, const Operands& operands, std::size_t least, std::size_t most) {
  if (operands.size() < least || operands.size() > most) {
    throw InputError("{} cannot have {} inputs", node.operation, operands.size());
  }
}

void add_unary(Operations& table, const std::string& name, float (*f)(float)) {
  table[name] = [f](const Node& node, const Operands& in) {
    check_count(node, in, 1, 1);
    return map(*in[0], f);
  };
}

void add_binary(Operations& table, const std::string& name,
                const std::function<float(float, float)>& f) {
  table[name] = [f](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    return combine(*in[0], *in[1], f);
  };
}

Operations common_operations() {
  Operations table;
  add_unary(table, "Relu", relu);
  add_unary(table, "Sigmoid", sigmoid);
  add_unary(table, "Tanh", hyperbolic_tangent);
  add_binary(table, "Sub", std::minus<>());
  add_binary(table, "Mul", std::multiplies<>());
  table["Identity"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 1, 1);
    return *in[0];
  };
  return table;
}

void check_last_axis(const Sizes& axes, const Array& x, int64_t keep) {
  if (axes.size() != 1 || axis_of(axes[0], x.shape.size()) + 1 != x.shape.size() || keep != 1) {
    throw InputError("only reductions of the last axis that keep it are known");
  }
}

namespace {

class Execution {
 public:
  Execution(const Graph& graph, const Operations& operations,
            const std::map<std::string, Array>& feeds)
      : graph_(graph), operations_(operations), values_(feeds) {
    for (const Node& node : graph.nodes) {
      for (const std::string& input : node.inputs) {
        ++uses_[input];
      }
    }
    for (const std::string& output : graph.outputs) {
      ++uses_[output];
    }
  }

  std::map<std::string, Array> outputs() {
    for (const Node& node : graph_.nodes) {
      try {
        execute(node);
      } catch (const InputError& error) {
        throw InputError("node '{}' ({}): {}", node.name, node.operation, error.what());
      }
    }
    std::map<std::string, Array> outputs;
    for (const std::string& name : graph_.outputs) {
      outputs[name] = value(name);
    }
    return outputs;
  }

 private:
  const Array& value(const std::string& name) const {
    for (const auto* from : {&values_, &graph_.constants}) {
      if (const auto found = from->find(name); found != from->end()) {
        return found->second;
      }
    }
    throw InputError("there is no value '{}'", name);
  }

  void execute(const Node& node) {
    const auto operation = operations_.find(node.operation);
    if (operation == operations_.end()) {
      throw InputError("an operation that no export uses");
    }
    Operands operands;
    for (const std::string& input : node.inputs) {
      operands.push_back(&value(input));
    }
    Array result = operation->second(node, operands);
    for (const std::string& input : node.inputs) {
      if (--uses_[input] == 0) {
        values_.erase(input);
      }
    }
    if (!values_.emplace(node.output, std::move(result)).second) {
      throw InputError("the value '{}' is made twice", node.output);
    }
  }

  const Graph& graph_;
  const Operations& operations_;
  std::map<std::string, Array> values_;
  std::map<std::string, int64_t> uses_;
};

}  // namespace

std::map<std::string, Array> run(const Graph& graph, const Operations& operations,
                                 const std::map<std::string, Array>& feeds) {
  for (const std::string& input : graph.inputs) {
    if (!feeds.contains(input)) {
      throw InputError("the input '{}' is not given", input);
    }
  }
  return Execution(graph, operations, feeds).outputs();
}

}  // namespace stemfabric::evaluator
