#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "trainer/export/evaluator/evaluators.h"
#include "trainer/export/evaluator/graph.h"
#include "trainer/export/evaluator/open_file.h"
#include "trainer/export/protobuf.h"

namespace stemfabric::evaluator {
namespace {

// Calls f(field) for every field of a message.
template <typename F>
void for_each_field(std::string_view message, F f) {
  ProtobufReader reader(message);
  for (ProtobufField field; reader.next(field);) {
    f(field);
  }
}

std::string text(const ProtobufField& field) { return std::string(field.bytes); }

template <typename T>
std::vector<T> raw_values(std::string_view bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  if (values.size() * sizeof(T) != bytes.size()) {
    throw InputError("{} bytes are no whole number of values", bytes.size());
  }
  return values;
}

// TensorProto -> its name and values.
std::pair<std::string, Array> read_tensor(std::string_view message) {
  std::string name;
  Sizes shape;
  uint64_t type = 0;
  std::string_view raw;
  for_each_field(message, [&](const ProtobufField& field) {
    switch (field.number) {
      case 1:
        field.append_integers(shape);
        break;
      case 2:
        type = field.integer;
        break;
      case 8:
        name = text(field);
        break;
      case 9:
        raw = field.bytes;
        break;
      default:
        throw InputError("tensor '{}' has the field {}, which no export uses", name, field.number);
    }
  });
  try {
    if (type == 1) {
      return {name, Array::of(shape, raw_values<float>(raw))};
    }
    if (type == 7) {
      return {name, Array::of_integers(shape, raw_values<int64_t>(raw))};
    }
    throw InputError("its element type {} is neither float (1) nor int64 (7)", type);
  } catch (const InputError& error) {
    throw InputError("tensor '{}': {}", name, error.what());
  }
}

void read_attribute(std::string_view message, Node& node) {
  std::string name;
  Sizes integers;
  float number = 0.0F;
  uint64_t type = 0;
  for_each_field(message, [&](const ProtobufField& field) {
    switch (field.number) {
      case 1:
        name = text(field);
        break;
      case 2:
        number = field.value;
        break;
      case 3:
      case 8:
        field.append_integers(integers);
        break;
      case 20:
        type = field.integer;
        break;
      default:
        throw InputError("attribute '{}' has the field {}, which no export uses", name,
                         field.number);
    }
  });
  if (type == 1) {
    node.floats[name] = number;
  } else if (type == 2 || type == 7) {
    node.integers[name] = integers;
  } else {
    throw InputError("attribute '{}' of node '{}' has the type {}: none of float, int, ints", name,
                     node.name, type);
  }
}

Node read_node(std::string_view message) {
  Node node;
  std::vector<std::string_view> attributes;
  for_each_field(message, [&](const ProtobufField& field) {
    switch (field.number) {
      case 1:
        node.inputs.push_back(text(field));
        break;
      case 2:
        if (!node.output.empty()) {
          throw InputError("node '{}' has more than one output", node.output);
        }
        node.output = text(field);
        break;
      case 3:
        node.name = text(field);
        break;
      case 4:
        node.operation = text(field);
        break;
      case 5:
        attributes.push_back(field.bytes);
        break;
      default:
        break;  // domain, doc_string
    }
  });
  for (const std::string_view attribute : attributes) {
    read_attribute(attribute, node);
  }
  return node;
}

struct OnnxModel {
  Graph graph;
  std::map<std::string, Sizes> declared;  // of inputs and outputs; open sizes are −1
};

// TensorShapeProto -> sizes.
Sizes read_shape(std::string_view message) {
  Sizes shape;
  for_each_field(message, [&](const ProtobufField& dim) {
    int64_t size = -1;
    for_each_field(dim.bytes, [&](const ProtobufField& field) {
      size = field.number == 1 ? static_cast<int64_t>(field.integer) : size;
    });
    shape.push_back(size);
  });
  return shape;
}

// The tensor type of a TypeProto -> its shape. The elements must be floats.
Sizes read_float_type(std::string_view message) {
  uint64_t type = 0;
  Sizes shape;
  for_each_field(message, [&](const ProtobufField& field) {
    if (field.number == 1) {
      type = field.integer;
    } else if (field.number == 2) {
      shape = read_shape(field.bytes);
    }
  });
  if (type != 1) {
    throw InputError("is declared with element type {}, not float (1)", type);
  }
  return shape;
}

// ValueInfoProto -> its name; what it declares goes to the model.
std::string read_value(std::string_view message, OnnxModel& model) {
  std::string name;
  std::string_view type;
  for_each_field(message, [&](const ProtobufField& field) {
    if (field.number == 1) {
      name = text(field);
    } else if (field.number == 2) {
      for_each_field(field.bytes, [&](const ProtobufField& part) {
        type = part.number == 1 ? part.bytes : type;
      });
    }
  });
  try {
    model.declared[name] = read_float_type(type);
  } catch (const InputError& error) {
    throw InputError("'{}': {}", name, error.what());
  }
  return name;
}

OnnxModel read_graph(std::string_view message) {
  OnnxModel model;
  Graph& graph = model.graph;
  for_each_field(message, [&](const ProtobufField& field) {
    switch (field.number) {
      case 1:
        graph.nodes.push_back(read_node(field.bytes));
        break;
      case 5: {
        auto [name, values] = read_tensor(field.bytes);
        if (!graph.constants.emplace(name, std::move(values)).second) {
          throw InputError("tensor '{}' is there twice", name);
        }
        break;
      }
      case 11:
        graph.inputs.push_back(read_value(field.bytes, model));
        break;
      case 12:
        graph.outputs.push_back(read_value(field.bytes, model));
        break;
      default:
        break;  // name, doc_string, value_info
    }
  });
  return model;
}

OnnxModel read_model(std::string_view file) {
  uint64_t ir_version = 0;
  uint64_t opset = 0;
  std::string_view graph;
  for_each_field(file, [&](const ProtobufField& field) {
    if (field.number == 1) {
      ir_version = field.integer;
    } else if (field.number == 7) {
      graph = field.bytes;
    } else if (field.number == 8) {
      for_each_field(field.bytes, [&](const ProtobufField& part) {
        opset = part.number == 2 ? part.integer : opset;
      });
    }
  });
  if (ir_version != 8 || opset != 17) {
    throw InputError("is of IR version {} and opset {}, not 8 and 17", ir_version, opset);
  }
  return read_graph(graph);
}

const Sizes& integers_of(const Array& x) {
  if (!x.is_integer || x.shape.size() != 1) {
    throw InputError("an array {} where a list of integers is wanted", to_string(x.shape));
  }
  return x.integers;
}

// Slice: places are clamped to the array, negative ones count from its end; no steps.
Array sliced(const Operands& in) {
  const Sizes& starts = integers_of(*in[1]);
  const Sizes& ends = integers_of(*in[2]);
  Sizes axes;
  if (in.size() > 3) {
    axes = integers_of(*in[3]);
  } else {
    for (std::size_t i = 0; i < starts.size(); ++i) {
      axes.push_back(static_cast<int64_t>(i));
    }
  }
  if (ends.size() != starts.size() || axes.size() != starts.size()) {
    throw InputError("{} starts, {} ends and {} axes", starts.size(), ends.size(), axes.size());
  }
  Sizes begin(in[0]->shape.size(), 0);
  Sizes size = in[0]->shape;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t axis = axis_of(axes[i], size.size());
    const int64_t length = in[0]->shape[axis];
    const auto place = [length](int64_t at) {
      return std::clamp<int64_t>(at < 0 ? at + length : at, 0, length);
    };
    begin[axis] = place(starts[i]);
    size[axis] = std::max<int64_t>(place(ends[i]) - begin[axis], 0);
  }
  return slice(*in[0], begin, size);
}

// Reshape: 0 keeps the size at its place.
Array reshaped(const Operands& in) {
  Sizes shape = integers_of(*in[1]);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0) {
      if (i >= in[0]->shape.size()) {
        throw InputError("no size {} of {} to keep", i, to_string(in[0]->shape));
      }
      shape[i] = in[0]->shape[i];
    }
  }
  return reshape(*in[0], shape);
}

Array shape_of(const Node& node, const Array& x) {
  const auto rank = static_cast<int64_t>(x.shape.size());
  const int64_t start = std::clamp<int64_t>(node.integer_or("start", 0), 0, rank);
  const int64_t end = std::clamp<int64_t>(node.integer_or("end", rank), start, rank);
  return Array::of_integers({end - start}, Sizes(x.shape.begin() + start, x.shape.begin() + end));
}

Operations element_operations() {
  Operations table = common_operations();
  add_binary(table, "Add", std::plus<>());
  add_binary(table, "Div", std::divides<>());
  return table;
}

void add_reductions(Operations& table) {
  table["Softmax"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 1, 1);
    check_last_axis({node.integer_or("axis", -1)}, *in[0], 1);
    return softmax(*in[0]);
  };
  table["ReduceSum"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    check_last_axis(integers_of(*in[1]), *in[0], node.integer_or("keepdims", 1));
    return reduce(*in[0], std::plus<>());
  };
  table["ReduceMax"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 1, 1);
    check_last_axis(node.integers_of("axes"), *in[0], node.integer_or("keepdims", 1));
    return reduce(*in[0], larger);
  };
  table["LayerNormalization"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 3, 3);
    check_last_axis({node.integer_or("axis", -1)}, *in[0], 1);
    return layer_norm(*in[0], *in[1], *in[2], node.float_of("epsilon"));
  };
}

void add_shapes(Operations& table) {
  table["MatMul"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    return product(*in[0], *in[1], false);
  };
  table["Shape"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 1, 1);
    return shape_of(node, *in[0]);
  };
  table["Slice"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 3, 4);
    return sliced(in);
  };
  table["Reshape"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    return reshaped(in);
  };
  table["Transpose"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 1, 1);
    return transpose(*in[0], node.integers_of("perm"));
  };
  table["Unsqueeze"] = [](const Node& node, const Operands& in) {
    check_count(node, in, 2, 2);
    return expand(*in[0], integers_of(*in[1]));
  };
  table["Concat"] = [](const Node& node, const Operands& in) {
    return concatenate(in, node.integer_of("axis"));
  };
}

const Operations& onnx_operations() {
  static const Operations table = [] {
    Operations all = element_operations();
    add_reductions(all);
    add_shapes(all);
    return all;
  }();
  return table;
}

StemOutputs evaluate(const OnnxModel& model, const Array& features, const Array& mask) {
  const std::map<std::string, Array> feeds = {{"stem_features", features}, {"mask", mask}};
  for (const auto& [name, feed] : feeds) {
    const auto declared = model.declared.find(name);
    if (declared == model.declared.end()) {
      throw InputError("the input '{}' is not declared", name);
    }
    check_declared(name, feed, declared->second);
  }
  StemOutputs outputs = run(model.graph, onnx_operations(), feeds);
  for (const auto& [name, output] : outputs) {
    check_declared(name, output, model.declared.at(name));
  }
  return outputs;
}

}  // namespace

Evaluator open_onnx(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string_view bytes(reinterpret_cast<const char*>(file.bytes().data()),
                               file.bytes().size());
  return open_file(
      path.string(), [bytes] { return read_model(bytes); }, evaluate);
}

}  // namespace stemfabric::evaluator
