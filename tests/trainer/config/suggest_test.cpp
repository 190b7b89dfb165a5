#include "trainer/config/suggest.h"

#include <gtest/gtest.h>

namespace stemfabric {
namespace {

TEST(Suggest, EditDistance) {
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("abc", ""), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("abcd", "abdc"), 1);  // a swap
  EXPECT_EQ(edit_distance("Batch-Size", "batch_size"), 0);
  EXPECT_EQ(edit_distance("ca", "abc"), 3);  // optimal string alignment
}

TEST(Suggest, NearestWord) {
  EXPECT_EQ(nearest_word("trian", {"evaluate", "train"}), "train");
  EXPECT_EQ(nearest_word("lrr", {"beta1", "lr"}), "lr");
  EXPECT_EQ(nearest_word("xyz", {"train", "evaluate"}), "");
  EXPECT_EQ(nearest_word("", {"a"}), "");
  EXPECT_EQ(nearest_word("ab", {"ax", "ay"}), "ax");
  EXPECT_EQ(nearest_word(std::string(100000, 'a'), {"a"}), "");
  EXPECT_EQ(did_you_mean("trian", {"train"}), "; did you mean 'train'?");
  EXPECT_EQ(did_you_mean("xyz", {"train"}), "");
}

}  // namespace
}  // namespace stemfabric
