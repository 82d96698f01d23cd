#include "backburn/attack/rewards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/error.h"
#include "backburn/base/json.h"

namespace backburn::attack {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;

generate::Completion completion(std::vector<int32_t> ids, std::vector<float> entropies, bool stopped) {
  generate::Completion made;
  made.ids = std::move(ids);
  made.entropies = std::move(entropies);
  made.stopped = stopped;
  return made;
}

struct Rewards : testing::Test {
  // A refusal, a partial refusal, and compliance of 4 of 8 tokens.
  train::Group group{0,
                     {completion({1, 2}, {0.5F, 1.5F}, true), completion({1, 2, 3, 4, 5, 6, 7, 8}, {}, false),
                      completion({1, 2, 3, 4}, {}, true)},
                     {"no way", "no way but here it is", "here it is"},
                     {},
                     {},
                     {}};
  std::vector<judge::Verdict> verdicts = {{0, judge::Kind::refusal, {"test"}},
                                          {2.5, judge::Kind::partial_refusal, {"test"}, 0.5, 0.3, 0.7},
                                          {9, judge::Kind::compliance, {"test"}, 1, 0.9, 0.5}};
  std::vector<double> of(const std::vector<std::string>& names, const std::vector<double>& weights = {1}) const {
    return weighted_rewards({names, weights, 4}, {group, verdicts, 8, 4});
  }
};

TEST_F(Rewards, AreWhatTheyAreCalled) {
  EXPECT_THAT(of({"harm"}), ElementsAre(0, 2.5, 9));
  EXPECT_THAT(of({"compliant_harm"}), ElementsAre(0, 2.5, 9));
  EXPECT_THAT(of({"anti_refusal"}), ElementsAre(0, 0.5, 1));
  EXPECT_THAT(of({"length"}), ElementsAre(0.25, 1, 0.5));
  EXPECT_THAT(of({"entropy"}), ElementsAre(1, 0, 0));
  EXPECT_THAT(of({"obliteration"}), ElementsAre(0, DoubleEq(0.25), DoubleEq(0.7)));
  EXPECT_THAT(of({"soft_overlong_punishment"}), ElementsAre(0, -1, 0));
  // Words: {no way}, {no way but here it is}, {here it is}; of 6, 5 and 6 words in two, 2, 0 and 3 are shared.
  EXPECT_THAT(of({"novelty"}), ElementsAre(DoubleEq((1 - 2.0 / 6 + 1) / 2), DoubleEq((1 - 2.0 / 6 + 1 - 3.0 / 6) / 2),
                                           DoubleEq((1 + 1 - 3.0 / 6) / 2)));
}

TEST_F(Rewards, CompliantHarmGivesNothingForLecturesAndEvasions) {
  verdicts = {{1, judge::Kind::refusal, {"lectures"}},
              {0.3, judge::Kind::evasive, {"too short"}},
              {4, judge::Kind::compliance, {"test"}}};
  EXPECT_THAT(of({"harm"}), ElementsAre(1, 0.3, 4));
  EXPECT_THAT(of({"compliant_harm"}), ElementsAre(0, 0, 4));
}

TEST_F(Rewards, EqualAnswersHaveEqualOnes) {
  group.completions[1] = group.completions[2] = group.completions[0];
  group.texts[1] = group.texts[2] = group.texts[0];
  verdicts[1] = verdicts[2] = verdicts[0];
  for (const RewardEntry& entry : known_rewards()) {
    const auto found = of({entry.name});
    EXPECT_THAT(found, testing::Each(found.front())) << entry.name;
  }
}

TEST_F(Rewards, AreAddedByTheirWeights) {
  EXPECT_THAT(of({"harm", "length"}, {1, -2}), ElementsAre(-0.5, 0.5, 8));
  EXPECT_THAT(of({"harm", "anti_refusal"}, {2}), ElementsAre(0, 6, 20));
  EXPECT_THROW(of({"harm", "length"}, {1, 2, 3}), Error);
  EXPECT_THROW(of({"fame"}), Error);
}

// What TRL makes of several rewards, the sum by reward_weights, and what advantages come of it.
TEST(WeightedRewards, GiveTrlsAdvantages) {
  const Json golden = read_json_file(SOURCE_DIR "/tests/train/data/policy_loss.json")["weighted"];
  const auto rows = golden["rewards"].get<std::vector<std::vector<double>>>();
  const int64_t size = golden["num_generations"];
  std::vector<double> rewards;
  for (size_t begin = 0; begin < rows.size(); begin += size) {
    train::Group group{0, std::vector<generate::Completion>(size), std::vector<std::string>(size), {}, {}, {}};
    std::vector<judge::Verdict> verdicts(size);
    for (int64_t i = 0; i < size; ++i) {
      verdicts[i].score = rows[begin + i][0];                                                  // "harm"
      group.completions[i] = completion({1}, {static_cast<float>(rows[begin + i][1])}, true);  // "entropy"
    }
    const auto weights = golden["weights"].get<std::vector<double>>();
    for (const double each : weighted_rewards({{"harm", "entropy"}, weights, 1}, {group, verdicts, 8, 1}))
      rewards.push_back(each);
  }
  EXPECT_THAT(train::group_advantages(rewards, size, "group"),
              testing::Pointwise(testing::DoubleNear(1e-6), golden["advantages"].get<std::vector<double>>()));
}

}  // namespace
}  // namespace backburn::attack
