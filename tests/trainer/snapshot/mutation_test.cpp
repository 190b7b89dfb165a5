// Snapshots damaged at random: no crash, and never more lenient than another strict parser.
#include <gtest/gtest.h>

#include <random>
#include <regex>

#include "tests/trainer/snapshot/snapshot_files.h"

namespace stemfabric {
namespace {

using test::Json;

TEST(MutatedSnapshots, AreNeverTakenUnlessTheyAreJson) {
  // Small, with every kind of value, escapes and unknown fields.
  const std::string base = test::control_with([](Json& s) {
    for (auto& group : s["quantumFeatures"]) {
      group = Json::array({0.5, -1.25e-7, 3, 0});
    }
    s["groundTruthStems"]["vocals"] = Json::array({0.1, -0.2});
    s["groundTruthStems"]["drums"] = Json::array({0.3, 1e-5});
    s["secret"] = Json::array({true, false, nullptr, "a\"\\\n\u00e9", Json{{"k", 1}}});
  });
  const std::string alphabet = "{}[]\",:\\u0123456789-+.eEtfn \t\n\x01\x7f\x80\xc3\xff/";
  std::mt19937 random(3);
  const auto below = [&](std::size_t n) { return random() % n; };
  const std::regex kOnlyHere(R"(\\u[dD]|[eE]\+?[0-9]{3})");
  int taken = 0;
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = base;
    for (std::size_t edits = 1 + below(3); edits > 0; --edits) {
      const std::size_t at = below(text.size());
      const char c = alphabet[below(alphabet.size())];
      switch (below(5)) {
        case 0:
          text[at] = c;
          break;
        case 1:
          text.insert(at, 1, c);
          break;
        case 2:
          text.erase(at, 1 + below(3));
          break;
        case 3:
          text.erase(at, below(text.size() - at));
          break;
        default:
          text.insert(at, text.substr(below(text.size()), below(30)));
      }
    }
    const test::Parsed parsed = test::parse(text);
    if (parsed.verdict == Verdict::kReject) {
      ASSERT_EQ(parsed.reasons.size(), 1U);
      ++refused;
      continue;
    }
    ++taken;
    // The other parser refuses two things that the grammar allows: numbers beyond double (in
    // unknown fields, here) and escaped unpaired surrogates.
    const bool exempt = std::regex_search(text, kOnlyHere);
    ASSERT_TRUE(exempt || Json::accept(text)) << text;
  }
  EXPECT_GT(taken, 500);
  EXPECT_GT(refused, 5000);
}

}  // namespace
}  // namespace stemfabric
