#include "tests/support/attention_goldens.h"

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/io/npy.h"
#include "tests/support/paths.h"

namespace stemfabric::test {
namespace {

const nlohmann::json& golden_index() {
  static const nlohmann::json index =
      nlohmann::json::parse(std::ifstream(data_dir() / "attention" / "index.json"));
  return index;
}

std::vector<double> read_values(const std::string& file) {
  const Tensor tensor = read_npy(data_dir() / "attention" / file);
  const auto copy = [&]<typename T>(const T* data) {
    return std::vector<double>(data, data + tensor.elements());
  };
  switch (tensor.dtype()) {
    case DType::kF32:
      return copy(tensor.as<float>());
    case DType::kF64:
      return copy(tensor.as<double>());
    default:
      return copy(tensor.as<uint8_t>());
  }
}

// [B, H, T, D] as stored -> [B, T, H, D] as the op takes it.
std::vector<double> read_rows(const AttentionProblem& p, const std::string& file) {
  const std::vector<double> stored = read_values(file);
  std::vector<double> out(stored.size());
  std::size_t from = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t t = 0; t < p.tokens; ++t) {
        for (int64_t e = 0; e < p.dim; ++e) {
          out[static_cast<std::size_t>(p.offset(b, t, h) + e)] = stored[from++];
        }
      }
    }
  }
  return out;
}

std::vector<uint8_t> to_bytes(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

AttentionActivation activation_of(const std::string& name) {
  static const std::map<std::string, AttentionActivation> names = {
      {"softmax", AttentionActivation::kSoftmax},
      {"superposition", AttentionActivation::kSuperposition},
      {"superposition_centered", AttentionActivation::kSuperpositionCentered},
      {"superposition_normalized", AttentionActivation::kSuperpositionNormalized}};
  return names.at(name);
}

void read_dropout(const nlohmann::json& entry, AttentionGolden& golden) {
  const nlohmann::json& d = entry.at("dropout");
  golden.dropout.p = d.at("p").get<float>();
  golden.dropout.key =
      philox_launch_key(std::stoull(d.at("seed").get<std::string>()), d.at("step").get<uint64_t>(),
                        d.at("layer").get<uint32_t>(), d.at("purpose").get<uint32_t>());
  golden.dropout.sample0 = d.at("sample0").get<int64_t>();
  golden.problem.keep = to_bytes(read_values(d.at("keep").get<std::string>()));
  golden.problem.keep_scale = 1.0 / (1.0 - d.at("p").get<double>());
}

}  // namespace

std::vector<std::pair<std::string, std::string>> attention_golden_names() {
  std::vector<std::pair<std::string, std::string>> names;
  for (const auto& entry : golden_index().at("cases")) {
    for (const auto& variant : entry.at("variants").items()) {
      names.emplace_back(entry.at("name").get<std::string>(), variant.key());
    }
  }
  return names;
}

AttentionGolden load_attention_golden(const std::string& name, const std::string& activation) {
  for (const auto& entry : golden_index().at("cases")) {
    if (entry.at("name") != name) {
      continue;
    }
    AttentionGolden golden;
    AttentionProblem& p = golden.problem;
    golden.name = name + "." + activation;
    const auto& coefficients = entry.at("coeffs");
    p.activation = activation_of(activation);
    p.alpha = coefficients[0];
    p.beta = coefficients[1];
    p.gamma = coefficients[2];
    p.batch = entry.at("B");
    p.heads = entry.at("H");
    p.tokens = entry.at("T");
    p.dim = entry.at("D");
    const auto& inputs = entry.at("inputs");
    p.q = read_rows(p, inputs.at("q"));
    p.k = read_rows(p, inputs.at("k"));
    p.v = read_rows(p, inputs.at("v"));
    p.d_o = read_rows(p, inputs.at("do"));
    p.key_mask = to_bytes(read_values(inputs.at("mask")));
    const auto& files = entry.at("variants").at(activation).at("files");
    golden.expected = {read_rows(p, files.at("o")), read_rows(p, files.at("dq")),
                       read_rows(p, files.at("dk")), read_rows(p, files.at("dv"))};
    golden.lse = read_values(entry.at("rows").at("lse"));
    golden.z2 = read_values(entry.at("rows").at("z2"));
    if (entry.contains("dropout") && !entry.at("dropout").is_null()) {
      read_dropout(entry, golden);
    }
    return golden;
  }
  throw InputError("tests/data/attention/index.json has no case '{}'", name);
}

}  // namespace stemfabric::test
