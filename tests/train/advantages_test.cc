// Against TRL's GRPOTrainer and RLOOTrainer, and REINFORCE++ in PyTorch: tools/make_loss_goldens.py makes the goldens.
#include "backburn/train/advantages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/error.h"
#include "backburn/base/json.h"

namespace backburn::train {
namespace {

using testing::DoubleNear;
using testing::Each;
using testing::ElementsAre;
using testing::Pointwise;

struct AdvantageGolden : testing::Test {
  const Json golden = read_json_file(TEST_DATA_DIR "/policy_loss.json");
  const std::vector<double> rewards = golden["rewards"].get<std::vector<double>>();
  const std::vector<int64_t> lengths = golden["reinforce_lengths"].get<std::vector<int64_t>>();

  static void expect(const std::vector<double>& found, const Json& wanted) {
    EXPECT_THAT(found, Pointwise(DoubleNear(1e-7), wanted["advantages"].get<std::vector<double>>())) << wanted.dump();
  }
};

TEST_F(AdvantageGolden, OfGroupsAreTrls) {
  for (const Json& wanted : golden["group_advantages"]) {
    expect(group_advantages(rewards, wanted["num_generations"], wanted["scale_rewards"]), wanted);
  }
}

TEST_F(AdvantageGolden, LeaveOneOutIsTrls) {
  for (const Json& wanted : golden["leave_one_out_advantages"]) {
    expect(leave_one_out_advantages(rewards, wanted["num_generations"], wanted["normalize"]), wanted);
  }
}

TEST_F(AdvantageGolden, ReinforceIsThatOfThePaper) {
  for (const Json& wanted : golden["reinforce_advantages"]) {
    expect(reinforce_advantages(rewards, lengths, wanted["num_generations"], wanted["baseline"]), wanted);
  }
}

TEST_F(AdvantageGolden, OverlongPunishmentIsTrls) {
  const Json& wanted = golden["soft_overlong"];
  std::vector<double> found;
  for (int64_t length = 0; length < 24; ++length) {
    found.push_back(soft_overlong_punishment(length, wanted["max_completion_length"], wanted["soft_punish_cache"]));
  }
  EXPECT_THAT(found, Pointwise(DoubleNear(1e-12), wanted["punishment"].get<std::vector<double>>()));
}

TEST_F(AdvantageGolden, TheNameChoosesTheEstimator) {
  const auto named = [&](const std::string& name) { return advantages({name}, rewards, lengths, 4); };
  EXPECT_EQ(named("grpo"), group_advantages(rewards, 4, "group"));
  EXPECT_EQ(named("rloo"), leave_one_out_advantages(rewards, 4, false));
  EXPECT_EQ(named("reinforce_plus_plus"), reinforce_advantages(rewards, lengths, 4, false));
  EXPECT_EQ(named("reinforce_plus_plus_baseline"), reinforce_advantages(rewards, lengths, 4, true));
  EXPECT_THROW(named("gae"), Error);
}

TEST(Advantages, EqualRewardsHaveNone) {
  const std::vector<double> rewards = {0.1, 0.1, 0.1, 7.0, 7.0, 7.0};
  const std::vector<int64_t> lengths = {3, 1, 2, 5, 5, 4};
  for (const char* name : {"grpo", "rloo", "reinforce_plus_plus_baseline"}) {
    EXPECT_THAT(advantages({name}, rewards, lengths, 3), Each(0.0)) << name;
  }
  EXPECT_THAT(group_advantages(rewards, 3, "none"), Each(0.0));
  // Without the group's own baseline, prompts are compared with each other.
  const auto across = advantages({"reinforce_plus_plus"}, rewards, lengths, 3);
  EXPECT_LT(across.front(), 0);
  EXPECT_GT(across.back(), 0);
  EXPECT_THAT(advantages({"reinforce_plus_plus"}, std::vector(6, 0.1), lengths, 3), Each(0.0));
}

TEST(Advantages, PositiveOnesAlone) {
  AdvantageOptions options;
  options.scale_rewards = "none";
  options.advantage_filter = "positive";
  EXPECT_THAT(advantages(options, std::vector{1.0, 4.0, 4.0}, std::vector<int64_t>{1, 1, 1}, 3), ElementsAre(0, 1, 1));
  options.advantage_filter = "negative";
  EXPECT_THROW(advantages(options, std::vector{1.0, 4.0}, std::vector<int64_t>{1, 1}, 2), Error);
}

}  // namespace
}  // namespace backburn::train
