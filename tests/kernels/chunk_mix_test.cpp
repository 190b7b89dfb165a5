// Chunks from their parts: to the bit those of float32 in the order of the formula, and within
// rounding the oracle's.
#include "kernels/chunk_mix/chunk_mix.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "tests/oracles/chunk_mix_cases.h"
#include "tests/support/op_harness.h"
#include "tests/support/simd_levels.h"

namespace stemfabric::test {
namespace {

// Bytes that begin where pcm and parts must.
GuardedTensor bytes_tensor(const Shape& shape, const void* from) {
  set_first_element(0);
  GuardedTensor tensor(shape, DType::kU8);
  set_first_element(1);
  const auto* bytes = static_cast<const unsigned char*>(from);
  tensor.assign(std::vector<double>(bytes, bytes + shape.elements()));
  return tensor;
}

struct Inputs {
  Inputs(const MixCase& c, const PackedParts& packed)
      : pcm(bytes_tensor({static_cast<int64_t>(packed.pcm.size())}, packed.pcm.data())),
        parts(bytes_tensor({c.b, c.p, static_cast<int64_t>(sizeof(ChunkPart))},
                           packed.parts.data())) {}
  GuardedTensor pcm, parts;
};

// The signs of zeros count, too.
void expect_bits(const std::string& what, const std::vector<double>& have,
                 const std::vector<float>& want) {
  ASSERT_EQ(have.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(static_cast<float>(have[i])),
              std::bit_cast<uint32_t>(want[i]))
        << what << " " << i << ": " << have[i] << ", not " << want[i];
  }
}

void check(const MixCase& c, int first_element) {
  const Inputs in(c, pack(c));
  set_first_element(first_element);
  GuardedTensor stems({c.b, c.s, c.c, c.n}, DType::kF32);
  GuardedTensor mixture({c.b, c.c, c.n}, DType::kF32);
  GuardedTensor alone({c.b, c.c, c.n}, DType::kF32);
  set_first_element(1);
  run_repeatably({&stems, &mixture, &alone}, [&](const ExecutionContext& ctx) {
    chunk_mix(ctx, {.pcm = in.pcm.view(),
                    .parts = in.parts.view(),
                    .stems = stems.view(),
                    .mixture = mixture.view()});
    chunk_mix(
        ctx,
        {.pcm = in.pcm.view(), .parts = in.parts.view(), .stems = {}, .mixture = alone.view()});
  });
  const auto oracle = chunk_mix_oracle<double>(c);
  const auto naive = chunk_mix_oracle<float>(c);
  expect_within_bound("stems of " + c.name, stems.values(), widen(naive.stems), oracle.stems);
  expect_within_bound("mixture of " + c.name, mixture.values(), widen(naive.mixture),
                      oracle.mixture);
  expect_bits("stems of " + c.name, stems.values(), naive.stems);
  expect_bits("mixture of " + c.name, mixture.values(), naive.mixture);
  expect_bits("mixture without stems of " + c.name, alone.values(), naive.mixture);
}

TEST(ChunkMix, IsTheFormulaToTheBit) {
  for (const MixCase& c : chunk_mix_cases()) {
    for (const int first : {0, 1}) {  // aligned outputs, and others
      check(c, first);
    }
  }
}

TEST(ChunkMix, IsTheSameAtEverySimdLevel) {
  for_each_simd_level([&] {
    for (const int first : {0, 1}) {
      check(mix_case("levels", 2, 7, 6, 2, 4500), first);
    }
  });
}

// From the second row on, as a batch that is not full has them.
TEST(ChunkMix, RowsWithoutPartsAreZero) {
  MixCase c = mix_case("short", 3, 7, 6, 2, 260);
  for (std::size_t i = 7; i < c.parts.size(); ++i) {
    c.parts[i] = {};
  }
  check(c, 0);
}

// -1 times a silent sample has a sign, what is beyond a part's end has none.
TEST(ChunkMix, SilenceKeepsItsSign) {
  MixCase c = mix_case("silent", 1, 2, 2, 2, 8);
  for (MixPart& part : c.parts) {
    part.samples.assign(2 * 5, 0.0);
    part.factor = -1.0F;
  }
  check(c, 0);
}

TEST(ChunkMix, APartThatIsNotInPcmIsNaN) {
  const MixCase c = mix_case("astray", 1, 3, 2, 2, 64, /*mixed_types=*/false);
  PackedParts packed = pack(c);
  const auto size = static_cast<int64_t>(packed.pcm.size());
  const ChunkPart good = packed.parts[1];
  const auto spoiled = [&](ChunkPart part) {
    packed.parts[1] = part;
    const Inputs in(c, packed);
    GuardedTensor stems({1, 2, 2, 64}, DType::kF32);
    GuardedTensor mixture({1, 2, 64}, DType::kF32);
    stems.assign(std::vector<double>(256, 7.0));
    mixture.assign(std::vector<double>(128, 7.0));
    run_repeatably({&stems, &mixture}, [&](const ExecutionContext& ctx) {
      chunk_mix(ctx, {.pcm = in.pcm.view(),
                      .parts = in.parts.view(),
                      .stems = stems.view(),
                      .mixture = mixture.view()});
    });
    int64_t bad = 0;
    for (int64_t i = 0; i < 256; ++i) {
      EXPECT_EQ(std::isnan(stems.get(i)), std::isnan(stems.get(128)) && i >= 128) << i;
    }
    for (int64_t i = 0; i < 128; ++i) {
      bad += std::isnan(mixture.get(i)) ? 1 : 0;
    }
    return bad == 128 && std::isnan(stems.get(128));
  };
  const auto changed = [&](const std::function<void(ChunkPart&)>& change) {
    ChunkPart part = good;
    change(part);
    return spoiled(part);
  };
  EXPECT_FALSE(spoiled(good));
  const int64_t last = size - 2 * 128;
  EXPECT_FALSE(changed([&](ChunkPart& part) { part.begin = last; }));
  EXPECT_TRUE(changed([&](ChunkPart& part) { part.begin = last + 16; }));
  EXPECT_TRUE(changed([&](ChunkPart& part) { part.begin = 2; }));
  EXPECT_TRUE(changed([&](ChunkPart& part) { part.begin = -16; }));
  EXPECT_TRUE(changed([&](ChunkPart& part) { part.frames = -1; }));
  EXPECT_TRUE(changed([&](ChunkPart& part) { part.frames = 2'000'000'000; }));
  EXPECT_TRUE(changed([&](ChunkPart& part) { part.type = static_cast<PcmType>(3); }));
  EXPECT_FALSE(changed([&](ChunkPart& part) { part.type = PcmType::kNone; }));
}

TEST(ChunkMix, NoRowsAreNothing) {
  const MixCase c = mix_case("none", 0, 7, 6, 2, 8);
  PackedParts packed = pack(c);
  packed.pcm.resize(16);
  packed.parts.resize(1);  // has an address
  const Inputs in(c, packed);
  GuardedTensor stems({0, 6, 2, 8}, DType::kF32), mixture({0, 2, 8}, DType::kF32);
  chunk_mix(test_context(), {.pcm = in.pcm.view(),
                             .parts = in.parts.view(),
                             .stems = stems.view(),
                             .mixture = mixture.view()});
  wait_for_ops();
}

TEST(ChunkMix, SaysWhatDoesNotFit) {
  const MixCase c = mix_case("contract", 2, 3, 2, 2, 8);
  const Inputs in(c, pack(c));
  GuardedTensor stems({2, 2, 2, 8}, DType::kF32), mixture({2, 2, 8}, DType::kF32);
  GuardedTensor many({2, 4, 2, 8}, DType::kF32), longer({2, 2, 2, 9}, DType::kF32);
  const auto run = [](ConstTensorView pcm, ConstTensorView parts, TensorView to, TensorView sum) {
    chunk_mix(test_context(), {.pcm = pcm, .parts = parts, .stems = to, .mixture = sum});
  };
  const ConstTensorView pcm = in.pcm.view();
  const ConstTensorView parts = in.parts.view();
  expect_contract_error({"chunk_mix", "pcm"},
                        [&] { run({}, parts, stems.view(), mixture.view()); });
  expect_contract_error({"chunk_mix", "parts"},
                        [&] { run(pcm, parts.slice(0, 0, 1), stems.view(), mixture.view()); });
  expect_contract_error({"chunk_mix", "mixture"}, [&] { run(pcm, parts, stems.view(), {}); });
  expect_contract_error({"chunk_mix", "stems", "[2, 2, 2, 9]"},
                        [&] { run(pcm, parts, longer.view(), mixture.view()); });
  expect_contract_error({"chunk_mix", "4 stems of 3 parts"},
                        [&] { run(pcm, parts, many.view(), mixture.view()); });
  expect_contract_error({"chunk_mix", "stems must be contiguous"},
                        [&] { run(pcm, parts, longer.view().slice(3, 0, 8), mixture.view()); });
  expect_contract_error({"chunk_mix", "must begin at a multiple of 16"},
                        [&] { run(pcm.slice(0, 8, 16), parts, stems.view(), mixture.view()); });
}

}  // namespace
}  // namespace stemfabric::test
