#include "backburn/text/wordings.h"

#include <gtest/gtest.h>

#include <set>

#include "backburn/base/error.h"

namespace backburn::text {
namespace {

TEST(Wordings, ThePromptStandsWhereItsPlaceIs) {
  EXPECT_EQ(worded("Bitte: {} Danke!", "Say {}"), "Bitte: Say {} Danke!");
  EXPECT_THROW(worded("Bitte!", "Say"), Error);
}

TEST(Wordings, EachPromptIsAskedInAShareOfThemAndInNoneTwice) {
  const std::vector<std::string> wordings = {"a {}", "b {}", "c {}"};
  size_t all = 0;
  std::set<std::string> seen;
  for (size_t i = 0; i < 200; ++i) {
    const auto texts = reworded("x", i, wordings, 1.5, 7);
    EXPECT_TRUE(texts.size() == 1 || texts.size() == 2);
    EXPECT_EQ(std::set<std::string>(texts.begin(), texts.end()).size(), texts.size());
    EXPECT_EQ(texts, reworded("x", i, wordings, 1.5, 7));
    seen.insert(texts.begin(), texts.end());
    all += texts.size();
  }
  EXPECT_NEAR(static_cast<double>(all), 300, 30);
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_EQ(reworded("x", 0, wordings, 9, 7).size(), 3u);
  EXPECT_TRUE(reworded("x", 0, wordings, 0, 7).empty());
  EXPECT_TRUE(reworded("x", 0, {}, 2, 7).empty());
}

}  // namespace
}  // namespace backburn::text
