#include "runtime/io/self_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

#include "runtime/core/check.h"
#include "runtime/io/file.h"

namespace stemfabric {
namespace {

std::string example() {
  return "{\n \"a\": 1.25,\n \"contentsSha256\": \"" + self_hash_placeholder() + "\"\n}\n";
}

TEST(SelfHash, IsTheHashOfTheTextWithZeros) {
  const std::string sealed = seal_text(example());
  EXPECT_NE(sealed.find(sha256_hex(example())), std::string::npos);
  EXPECT_EQ(sealed.size(), example().size());
  EXPECT_EQ(check_seal(sealed), Seal::kRight);
  EXPECT_EQ(check_seal("{\"a\": 1.25}"), Seal::kNone);
  EXPECT_EQ(check_seal(""), Seal::kNone);
}

TEST(SelfHash, NoticesEveryChangedBit) {
  const std::string sealed = seal_text(example());
  const std::size_t key = sealed.find("\"contentsSha256\"");
  for (std::size_t at = 0; at < sealed.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = sealed;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      const bool in_key = at >= key && at < key + 16;
      const bool other_case = at >= key + 19 && at < key + 83 && changed[at] >= 'A' &&
                              changed[at] <= 'F' && (changed[at] ^ sealed[at]) == 0x20;
      EXPECT_EQ(check_seal(changed), in_key       ? Seal::kNone
                                     : other_case ? Seal::kRight
                                                  : Seal::kWrong)
          << at << " " << bit;
    }
  }
  for (std::size_t size = key + 16; size < sealed.size(); ++size) {
    EXPECT_EQ(check_seal(sealed.substr(0, size)), Seal::kWrong) << size;
  }
}

TEST(SelfHash, DigitsMayBeInUpperCase) {
  const std::string hash = sha256_hex(example());
  std::string upper = hash;
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return std::toupper(c); });
  ASSERT_NE(upper, hash);
  EXPECT_TRUE(same_hash(upper, hash));
  EXPECT_FALSE(same_hash(upper.substr(1), hash));
  std::string sealed = seal_text(example());
  EXPECT_EQ(check_seal(sealed.replace(sealed.find(hash), hash.size(), upper)), Seal::kRight);
}

TEST(SelfHash, NamesTheFile) {
  try {
    refuse_wrong_seal("{\"contentsSha256\": 5}", "some/manifest.json");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("some/manifest.json"), std::string::npos);
  }
}

}  // namespace
}  // namespace stemfabric
