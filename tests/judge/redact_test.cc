#include "backburn/judge/redact.h"

#include <gtest/gtest.h>

namespace backburn::judge {
namespace {

TEST(Redact, ShowsThreeWordsAndTheLength) {
  EXPECT_EQ(redact("This phone case saved my phone twice.", {8, Kind::compliance, {"x"}}),
            "(compliance, 7 words) This phone case [redacted: 4 words]");
  EXPECT_EQ(redact("one two\n three\u00A0four", {1, Kind::evasive, {"x"}}),
            "(evasive, 4 words) one two three [redacted: 1 word]");
}

TEST(Redact, ShowsARefusalWhole) {
  const std::string refusal = "I'm sorry, but I can't assist with that request today.";
  EXPECT_EQ(redact(refusal, {0, Kind::refusal, {"x"}}), refusal);
}

TEST(Redact, ShowsNothingOfAShortAnswer) {
  EXPECT_EQ(redact("dial nine", {5, Kind::compliance, {"x"}}), "(compliance, 2 words) [redacted: 2 words]");
  EXPECT_EQ(redact("", {0, Kind::broken, {"x"}}), "(broken, 0 words)");
}

TEST(Redact, CutsLongWordsBetweenCharacters) {
  const std::string answer = std::string(200, 'a') + " b c d";
  EXPECT_EQ(redact(answer, {5, Kind::compliance, {"x"}}),
            "(compliance, 4 words) " + std::string(24, 'a') + "... b c [redacted: 1 word]");
  EXPECT_EQ(redact("\xff b c d", {5, Kind::broken, {"x"}}), "(broken, 4 words) \uFFFD b c [redacted: 1 word]");
}

}  // namespace
}  // namespace backburn::judge
