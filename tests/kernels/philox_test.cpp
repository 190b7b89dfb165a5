#include "kernels/common/philox.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

// The known answers published with the generator (Random123, kat_vectors, philox4x32 10 rounds).
TEST(Philox, GivesThePublishedAnswers) {
  struct Known {
    PhiloxCounter counter;
    PhiloxKey key;
    PhiloxCounter out;
  };
  const Known known[] = {
      {{{0, 0, 0, 0}}, {{0, 0}}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{~0u, ~0u, ~0u, ~0u}}, {{~0u, ~0u}}, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       {{0xa4093822, 0x299f31d0}},
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const Known& k : known) {
    const PhiloxCounter out = philox4x32_10(k.counter, k.key);
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(out.word[i], k.out.word[i]);
    }
  }
}

TEST(Philox, LaunchKeyIsTheFirstTwoWordsUnderTheSeed) {
  const uint64_t seed = 0x0123456789abcdefu;
  const uint64_t step = 0xfedcba9876543210u;
  const PhiloxCounter bits =
      philox4x32_10({{0x76543210u, 0xfedcba98u, 5, 6}}, {{0x89abcdefu, 0x01234567u}});
  const PhiloxKey key = philox_launch_key(seed, step, 5, 6);
  EXPECT_EQ(key.word[0], bits.word[0]);
  EXPECT_EQ(key.word[1], bits.word[1]);
  EXPECT_NE(philox_launch_key(seed, step, 5, 7).word[0], key.word[0]);
}

TEST(Philox, LanesAreTheHalvesOfTheWordsInOrder) {
  const PhiloxCounter c = {{0x00020001u, 0x00040003u, 0x00060005u, 0x00080007u}};
  for (int n = 0; n < 8; ++n) {
    EXPECT_EQ(philox_lane16(c, n), static_cast<uint32_t>(n) + 1);
  }
}

TEST(Philox, UniformStaysBelowOne) {
  EXPECT_EQ(philox_uniform(0), 0.0f);
  EXPECT_EQ(philox_uniform(0xFFu), 0.0f);  // the low eight bits are not used
  EXPECT_LT(philox_uniform(~0u), 1.0f);
  EXPECT_EQ(philox_uniform(1u << 31), 0.5f);
}

TEST(Dropout, ThresholdAndScaleAtTheEdges) {
  EXPECT_EQ(dropout_threshold(0.0f), 0u);
  EXPECT_EQ(dropout_scale(0.0f), 1.0f);
  EXPECT_EQ(dropout_threshold(0.5f), 32768u);
  EXPECT_EQ(dropout_scale(0.5f), 2.0f);
  EXPECT_EQ(dropout_threshold(0.1f), 6554u);  // round(6553.6)
  EXPECT_FLOAT_EQ(dropout_scale(0.1f), static_cast<float>(1 / (1 - 6554.0 / 65536.0)));
  EXPECT_EQ(dropout_threshold(0x1p-18f), 0u);  // below half a step: off
  EXPECT_EQ(dropout_threshold(0x1p-17f), 1u);
  EXPECT_EQ(dropout_threshold(65535.0f / 65536.0f), 65535u);
  EXPECT_EQ(dropout_scale(65535.0f / 65536.0f), 65536.0f);
}

// The scale undoes the expected loss exactly: kept share times scale is 1.
TEST(Dropout, KeepsTheMean) {
  for (float p : {0.001f, 0.1f, 0.25f, 0.9f}) {
    const double kept = 1 - static_cast<double>(dropout_threshold(p)) / 65536;
    EXPECT_NEAR(kept * static_cast<double>(dropout_scale(p)), 1.0, 1e-7);
  }
}

}  // namespace
}  // namespace stemfabric
