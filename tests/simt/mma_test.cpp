// The tensor-core operations of kernels/common/mma.cuh: that every lane holds the elements that the
// PTX ISA says, and that the loads put them there. On a GPU the same layout is the hardware's.
#include "kernels/common/mma.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

constexpr int kStride = 24;  // of the operands in shared memory

struct MmaStorage {
  Bf16 a[16 * kStride], b_of_columns[16 * kStride], b_of_rows[16 * kStride];
};

// c [16 x 16] = a [16 x 16] b [16 x 16], b stored by rows and, transposed, by columns; the
// fragments of each way go to `words`, [way][lane][8].
__global__ void product_kernel(const Bf16* a, const Bf16* b, float* c, uint32_t* words) {
  auto& shared = shared_storage<MmaStorage>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) {
    shared.a[i / 16 * kStride + i % 16] = a[i];
    shared.b_of_columns[i / 16 * kStride + i % 16] = b[i];
    shared.b_of_rows[i % 16 * kStride + i / 16] = b[i];
  }
  __syncwarp();
  const FragmentA left = load_a(shared.a, kStride);
  const TwoB ways[2] = {load_b_of_columns(shared.b_of_columns, kStride),
                        load_b_of_rows(shared.b_of_rows, kStride)};
  for (int way = 0; way < 2; ++way) {
    for (int w = 0; w < 4; ++w) {
      words[(way * 32 + lane) * 8 + w] = left.word[w];
      words[(way * 32 + lane) * 8 + 4 + w] = ways[way].b[w / 2].word[w % 2];
    }
  }
  for (int n = 0; n < 2; ++n) {
    FragmentC out = {};
    mma(out, left, ways[0].b[n]);
    for (int i = 0; i < 4; ++i) {
      c[(lane / 4 + i / 2 * 8) * 16 + 8 * n + lane % 4 * 2 + i % 2] = out.value[i];
    }
  }
}

class MmaTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 256; ++i) {
      a_[i] = to_bf16(static_cast<float>(std::sin(i)));
      b_[i] = to_bf16(static_cast<float>(std::cos(2 * i)));
    }
    launch(test_context(), {.kernel = "product_kernel", .grid = 1, .block = 32}, product_kernel,
           a_.data(), b_.data(), c_.data(), words_.data());
    wait_for_ops();
  }
  static uint32_t pair(Bf16 low, Bf16 high) { return low.bits | uint32_t{high.bits} << 16; }
  Bf16 a(int i, int k) const { return a_[static_cast<std::size_t>(i * 16 + k)]; }
  Bf16 b(int k, int n) const { return b_[static_cast<std::size_t>(k * 16 + n)]; }

  std::vector<Bf16, TestMemory<Bf16>> a_ = std::vector<Bf16, TestMemory<Bf16>>(256);
  std::vector<Bf16, TestMemory<Bf16>> b_ = a_;
  std::vector<float, TestMemory<float>> c_ = std::vector<float, TestMemory<float>>(256);
  std::vector<uint32_t, TestMemory<uint32_t>> words_ =
      std::vector<uint32_t, TestMemory<uint32_t>>(512);
};

TEST_F(MmaTest, ProductIsTheProduct) {
  for (int i = 0; i < 16; ++i) {
    for (int n = 0; n < 16; ++n) {
      double sum = 0;
      for (int k = 0; k < 16; ++k) {
        sum += double{from_bf16(a(i, k))} * double{from_bf16(b(k, n))};
      }
      EXPECT_NEAR(c_[static_cast<std::size_t>(i * 16 + n)], sum, 16 * 0x1p-24 * 16)
          << i << ", " << n;
    }
  }
}

// "Matrix fragments for mma.m16n8k16", element by element.
TEST_F(MmaTest, LanesHoldTheElementsOfThePtxIsa) {
  for (std::size_t lane = 0; lane < 32; ++lane) {
    const int group = static_cast<int>(lane) >> 2;
    const int in_group = static_cast<int>(lane) % 4;
    for (int i = 0; i < 8; i += 2) {  // a0 … a7 and, below, b0 … b3
      const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
      const int column = in_group * 2 + (i >= 4 ? 8 : 0);
      EXPECT_EQ(words_[lane * 8 + static_cast<std::size_t>(i) / 2],
                pair(a(row, column), a(row, column + 1)))
          << lane << ", a" << i;
    }
    for (std::size_t way = 0; way < 2; ++way) {
      for (int i = 0; i < 8; i += 2) {
        const int column = group + i / 4 * 8;
        const int row = in_group * 2 + (i % 4 >= 2 ? 8 : 0);
        EXPECT_EQ(words_[(way * 32 + lane) * 8 + 4 + static_cast<std::size_t>(i) / 2],
                  pair(b(row, column), b(row + 1, column)))
            << lane << ", b" << i << ", way " << way;
      }
    }
  }
}

TEST(MmaNumbers, ProductsOfPairsAreRoundedOnce) {
  for (const auto& [x, y] :
       {std::pair{1.0f, -2.5f}, std::pair{3.140625f, 0.33203125f}, std::pair{-1.5e-3f, 7.0f}}) {
    const uint32_t product = multiply_bf16(pack_bf16(x, y), pack_bf16(y, y));
    EXPECT_EQ(low_bf16(product), round_to_bf16(round_to_bf16(x) * round_to_bf16(y)));
    EXPECT_EQ(high_bf16(product), round_to_bf16(round_to_bf16(y) * round_to_bf16(y)));
  }
}

}  // namespace
}  // namespace stemfabric::test
