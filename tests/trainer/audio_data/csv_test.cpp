#include "trainer/audio_data/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

using Fields = std::vector<std::string>;
using testing::HasSubstr;

std::string refusal(const std::string& text) {
  try {
    parse_csv(text, "t.csv");
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Csv, FieldsAndLines) {
  const auto rows =
      parse_csv("\xEF\xBB\xBFtrack,a\r\n\r\n\"x, \"\"y\"\"\nz\",\nlast,\"\"", "t.csv");
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].fields, (Fields{"track", "a"}));
  EXPECT_EQ(rows[0].line, 1);
  EXPECT_EQ(rows[1].fields, (Fields{"x, \"y\"\nz", ""}));
  EXPECT_EQ(rows[1].line, 3);
  EXPECT_EQ(rows[2].fields, (Fields{"last", ""}));
  EXPECT_EQ(rows[2].line, 5);
  EXPECT_TRUE(parse_csv("", "t.csv").empty());
}

TEST(Csv, QuotesOutOfPlaceAreRefused) {
  EXPECT_THAT(refusal("a,b\n\"c,d\n"), HasSubstr("t.csv, line 2: a quoted field has no end"));
  EXPECT_THAT(refusal("a,\"b\"c\n"), HasSubstr("line 1: text behind the closing quote"));
}

}  // namespace
}  // namespace stemfabric
