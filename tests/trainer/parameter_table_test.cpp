#include "trainer/model/parameter_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace stemfabric {
namespace {

ModelConfig small_config() {
  ModelConfig c;
  c.input_dim = 10;
  c.dim = 12;
  c.depth = 2;
  c.heads = 2;
  c.dim_ff = 20;
  c.output_dim = 5;
  c.max_sequence_length = 7;
  return c;
}

int64_t element_offset(const ParameterInfo& p, int64_t i) {
  const int64_t columns = p.shape[-1];
  return p.offset + i / columns * p.row_stride + i % columns;
}

TEST(ParameterTable, EveryElementHasAPlaceOfItsOwn) {
  for (const char* placement : {"post", "pre"}) {
    for (const char* positions : {"learned", "rotary", "none"}) {
      ModelConfig c = small_config();
      c.norm_placement = placement;
      c.positions = positions;
      const ParameterTable table(c);
      std::set<int64_t> used;
      for (const ParameterInfo& p : table.entries()) {
        for (int64_t i = 0; i < p.shape.elements(); ++i) {
          const int64_t at = element_offset(p, i);
          EXPECT_TRUE(used.insert(at).second) << p.name << " element " << i;
          EXPECT_LT(at, table.block_elements());
          const bool kernel = p.name.ends_with(".kernel");
          EXPECT_EQ(kernel, at < table.decayed_elements()) << p.name;
        }
      }
      EXPECT_EQ(static_cast<int64_t>(used.size()), table.parameter_count());
      EXPECT_EQ(table.contains("pos"), std::string(positions) == "learned");
      EXPECT_EQ(table.contains("final_norm.gamma"), std::string(placement) == "pre");
    }
  }
}

TEST(ParameterTable, DefaultModelHasItsKnownSize) {
  ModelConfig c;
  c.input_dim = c.output_dim = 256;
  c.max_sequence_length = 256;
  const ParameterTable table(c);
  // input 256·256+256, pos 256·256, block 4·(256²+256) + 2·512 + 256·1024+1024 + 1024·256+256,
  // head 2·(256²+256)
  EXPECT_EQ(table.parameter_count(), 65792 + 65536 + 4 * 789760 + 6 * 131584);
  for (const ParameterInfo& p : table.entries()) {
    EXPECT_EQ(p.offset % 16, 0) << p.name;
  }
}

TEST(ParameterTable, FusedMatricesHoldTheNamedOnesSideBySide) {
  const ParameterTable table(small_config());
  std::vector<float> block(static_cast<std::size_t>(table.block_elements()));
  const ParameterInfo& kernel = table.fused("blocks.1.attn.qkv.kernel");
  const ParameterInfo& bias = table.fused("blocks.1.attn.qkv.bias");
  EXPECT_EQ(kernel.shape, (Shape{12, 36}));
  EXPECT_EQ(bias.shape, (Shape{36}));
  int64_t column = 0;
  for (const char* part : {"q", "k", "v"}) {
    const std::string name = std::string("blocks.1.attn.") + part;
    const auto slice = ParameterTable::view(kernel, block.data()).slice(1, column, 12);
    const auto named = ParameterTable::view(table.find(name + ".kernel"), block.data());
    EXPECT_EQ(slice.data(), named.data());
    EXPECT_EQ(named.stride(0), 36);
    EXPECT_EQ(table.find(name + ".bias").offset, bias.offset + column);
    column += 12;
  }
  EXPECT_EQ(table.fused("heads.hidden.kernel").shape, (Shape{12, 72}));
  EXPECT_EQ(table.find("heads.drums.hidden.kernel").offset,
            table.fused("heads.hidden.kernel").offset + 12);
  EXPECT_EQ(kernel.offset % 16, 0);
  EXPECT_EQ(bias.offset % 16, 0);
}

TEST(ParameterTable, InitialValuesDependOnSeedNameAndElementAlone) {
  const ParameterTable table(small_config());
  ModelConfig deeper = small_config();
  deeper.depth = 3;
  const ParameterTable deeper_table(deeper);
  std::vector<float> a(static_cast<std::size_t>(table.block_elements()), NAN);
  std::vector<float> b(static_cast<std::size_t>(deeper_table.block_elements()), NAN);
  table.initialize(a.data(), 7);
  deeper_table.initialize(b.data(), 7);
  std::set<float> kernel_values;
  int64_t kernel_elements = 0;
  for (const ParameterInfo& p : table.entries()) {
    const ParameterInfo& other = deeper_table.find(p.name);
    for (int64_t i = 0; i < p.shape.elements(); ++i) {
      const float value = a[static_cast<std::size_t>(element_offset(p, i))];
      ASSERT_EQ(value, b[static_cast<std::size_t>(element_offset(other, i))]) << p.name;
      if (p.initializer == Initializer::kGlorotUniform) {
        const double limit = std::sqrt(6.0 / static_cast<double>(p.shape[0] + p.shape[1]));
        EXPECT_LE(std::abs(value), limit * (1 + 1e-6)) << p.name;
        kernel_values.insert(value);
        ++kernel_elements;
      } else if (p.name == "pos") {
        EXPECT_LE(std::abs(value), 0.0500001f);
      } else {
        EXPECT_EQ(value, p.name.ends_with("gamma") ? 1.0f : 0.0f) << p.name;
      }
    }
  }
  // Hardly any two of the thousands of values coincide: no stream of bits is used twice.
  EXPECT_GT(static_cast<int64_t>(kernel_values.size()), kernel_elements * 99 / 100);
  EXPECT_TRUE(std::ranges::none_of(a, [](float x) { return std::isnan(x); }));  // gaps are zero
  std::vector<float> c(a.size());
  table.initialize(c.data(), 8);
  EXPECT_NE(a, c);
}

TEST(ParameterTable, RefusesSizesThatMakeNoModel) {
  const auto message = [](auto change) {
    ModelConfig c = small_config();
    change(c);
    try {
      const ParameterTable table(c);
    } catch (const ConfigError& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  EXPECT_NE(message([](auto& c) { c.input_dim = 0; }).find("model.input_dim"), std::string::npos);
  EXPECT_NE(message([](auto& c) { c.heads = 5; }).find("do not divide"), std::string::npos);
  EXPECT_NE(message([](auto& c) { c.dim = 512; }).find("the most is 128"), std::string::npos);
  EXPECT_NE(message([](auto& c) { c.positions = "sine"; }).find("'sine'"), std::string::npos);
  EXPECT_NE(message([](auto& c) { c.norm_placement = "mid"; }).find("'mid'"), std::string::npos);
  EXPECT_NE(message([](auto& c) {
              c.positions = "rotary";
              c.dim = 6;
            }).find("even number"),
            std::string::npos);
}

}  // namespace
}  // namespace stemfabric
