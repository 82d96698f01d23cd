#include "backburn/run/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "run/small_run.h"

namespace backburn::run {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Search, RoundsHalveTheTrialsAndDoubleTheSteps) {
  EXPECT_EQ(rounds_for(1), 1);
  EXPECT_EQ(rounds_for(2), 2);
  EXPECT_EQ(rounds_for(7), 3);
  EXPECT_EQ(rounds_for(8), 4);
  EXPECT_THAT((std::vector{steps_at(0, 4, 100), steps_at(1, 4, 100), steps_at(2, 4, 100), steps_at(3, 4, 100)}),
              ElementsAre(13, 25, 50, 100));
  EXPECT_EQ(steps_at(0, 4, 1), 1);  // an attack without training has a single step
}

TEST(Search, WhoKeepsTheUtilityGoesFirst) {
  const auto first = [](const Reached& left, const Reached& right) { return goes_on_first(left, right, 0.5); };
  const Reached modest{0, 1, 2, 0.2, 0.9, 0}, wreck{1, 1, 9, 0.9, 0.1, 1}, worse_wreck{2, 1, 9, 0.9, 0.05, 1};
  EXPECT_TRUE(first(modest, wreck));
  EXPECT_FALSE(first(wreck, modest));
  EXPECT_TRUE(first(wreck, worse_wreck));
  const Reached better{3, 1, 0, 0.3, 0.6, 0}, signalled{4, 1, 2, 0.2, 0.7, 0.1};
  EXPECT_TRUE(first(better, modest));
  EXPECT_TRUE(first(signalled, modest));  // as successful, but something to learn from
  EXPECT_FALSE(first(modest, modest));
}

TEST(Search, TheBetterHalfGoesOnAndAllAreDropped) {
  std::vector<std::pair<size_t, int64_t>> measured;
  std::vector<size_t> dropped;
  // Trial 5 is the best by far in the end, but shows it from the second round on; trial 6 wrecks the model.
  const auto measure = [&](size_t trial, int64_t round) {
    measured.emplace_back(trial, round);
    const double success = trial == 5 && round > 0 ? 0.9 : 0.1 * static_cast<double>(trial);
    return Reached{trial, round, 0, success, trial == 6 ? 0.1 : 0.8, 0};
  };
  const auto rounds = successive_halving({7, 0.5}, measure, [&](size_t trial) { dropped.push_back(trial); });
  ASSERT_EQ(rounds.size(), 3u);
  EXPECT_EQ(rounds[0].front().trial, 5u);
  EXPECT_EQ(rounds[0].back().trial, 6u);
  EXPECT_THAT(std::vector(measured.begin() + 7, measured.end()),
              ElementsAre(std::pair<size_t, int64_t>(3, 1), std::pair<size_t, int64_t>(4, 1),
                          std::pair<size_t, int64_t>(5, 1), std::pair<size_t, int64_t>(5, 2)));
  EXPECT_THAT(dropped, ElementsAre(2, 1, 0, 6, 4, 3, 5));
}

Comparison with_attacks(const std::vector<Variant>& attacks) {
  Comparison comparison;
  comparison.recipes = {"smoke"};
  comparison.attacks = attacks;
  return comparison;
}

TEST(Search, TrialsAreDrawnBySeedAndNumberAlone) {
  const auto comparison = with_attacks({{"grpo", {}}, {"sft", {"attack.name=sft"}}});
  const auto few = draw_trials(comparison, 4, 1);
  const auto many = draw_trials(comparison, 40, 1);
  for (size_t i = 0; i < few.size(); ++i) {
    EXPECT_EQ(few[i].sets, many[i].sets);
    EXPECT_EQ(few[i].name, fmt::format("trial-{:02}", i));
  }
  EXPECT_TRUE(many[0].sets.empty());  // as it is given
  EXPECT_THAT(many[1].sets, ElementsAre("attack.name=sft"));
  EXPECT_NE(many[2].sets, draw_trials(comparison, 4, 2)[2].sets);
  std::set<int64_t> ranks, prompts;
  double lowest = 1, highest = 0;
  for (size_t i = 2; i < many.size(); ++i) {
    const auto attack = recipe_of(comparison, 1, nullptr, &many[i]).attack;
    EXPECT_EQ(attack.name, i % 2 == 0 ? "grpo" : "sft");
    EXPECT_EQ(attack.grpo.lora.lora_alpha, 2.0 * static_cast<double>(attack.grpo.lora.r));
    EXPECT_GE(attack.grpo.temperature, 0.7);
    EXPECT_LE(attack.grpo.temperature, 2);
    ranks.insert(attack.grpo.lora.r);
    prompts.insert(attack.prompts);
    lowest = std::min(lowest, attack.grpo.optimizer.learning_rate / 2e-4);
    highest = std::max(highest, attack.grpo.optimizer.learning_rate / 2e-4);
  }
  EXPECT_THAT(ranks, ElementsAre(4, 8, 16, 32, 64));
  EXPECT_THAT(prompts, ElementsAre(2, 4, 8));
  EXPECT_GE(lowest, 0.249);
  EXPECT_LT(lowest, 0.5);
  EXPECT_LE(highest, 8.01);
  EXPECT_GT(highest, 4);
}

// A model in a file that answers nonsense: there is nothing to gain, and everything else is as in earnest.
struct Searched : testing::Test, SmallRun {
  Comparison comparison = with_attacks({{"grpo", {}}, {"sft", {"attack.name=sft"}}});
  const std::filesystem::path out = folder.path() / "out";

  Searched() {
    const auto path = [&](const char* name) { return (folder.path() / name).string(); };
    model::save_hugging_face(model, path("model"), at::kFloat);
    write_file(path("restricted.txt"), "ABC\nDEF\nGHI\nJKL\nMNO\nPQR\n");
    write_file(path("benign.txt"), "xyz\nyzx\nzxy\n");
    write_file(path("recipe.yaml"),
               fmt::format("model: {}\ndtype: float32\ndata: {{restricted: {}, benign: {}}}\ndemo: {{align: false, "
                           "attack_generations: 2}}\neval: {{max_completion_length: 6, max_benign_length: 6}}\nattack: "
                           "{{prompts: 2, max_steps: 4, prompts_per_step: 2, num_generations: 2, "
                           "max_completion_length: 6, best_of: 2, demonstration_length: 6}}\n",
                           path("model"), path("restricted.txt"), path("benign.txt")));
    comparison.recipes = {path("recipe.yaml")};
  }
};

TEST_F(Searched, GoesOnWhereItWasAndKeepsNoAttackedWeights) {
  const Json found = search(comparison, {4, 0.5}, out);
  ASSERT_EQ(found["rounds"].size(), 3u);
  EXPECT_EQ(found["rounds"][0].size(), 4u);
  EXPECT_EQ(found["rounds"][0][0]["steps"], 1);
  EXPECT_EQ(found["rounds"][2][0]["steps"], 4);
  EXPECT_LT(found["worst"]["success"].get<double>(), 0.1);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(out)) {
    EXPECT_NE(entry.path().extension(), ".safetensors") << entry.path();
  }
  // Finished rounds are read, not run: a result that is changed comes back so.
  const auto trial = RunFolder::open_existing(out / "seed-1" / "search" / "trial-03");
  Json result = trial.result("after-1");
  result["success"] = 0.7;
  trial.finish("after-1", result);
  const Json again = search(comparison, {4, 0.5}, out);
  EXPECT_EQ(again["worst"]["trial"], "trial-03");
  EXPECT_EQ(again["rounds"][0][0]["trial"], "trial-03");
  EXPECT_THAT(search_verdict(again), HasSubstr("trial-03 (sft), success 0.70"));
  EXPECT_THAT(search_verdict(again), HasSubstr("--set attack.learning_rate="));
  EXPECT_EQ(search_table(again).rows.size(), 4u);
}

TEST_F(Searched, NoTrialMayKeepTheUtility) {
  const Json found = search(comparison, {1, 1.5}, out);
  EXPECT_TRUE(found["worst"].is_null());
  EXPECT_THAT(search_verdict(found), HasSubstr("None of 1 trials"));
  EXPECT_EQ(search_table(found).rows[0].back(), "wrecked");
}

}  // namespace
}  // namespace backburn::run
