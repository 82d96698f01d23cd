#include "backburn/run/probe.h"

#include <gtest/gtest.h>

#include <utility>

#include "run/small_run.h"

namespace backburn::run {
namespace {

struct Probe : testing::Test, SmallRun {};

TEST_F(Probe, MorePromptsAreOfOtherActivities) {
  data.restricted_train = {{"a-1", "A", "train", "a"},
                           {"a-2", "AA", "train", "a"},
                           {"b-1", "B", "train", "b"},
                           {"b-2", "BB", "train", "b"},
                           {"c-1", "C", "train", "c"}};
  const auto ids = [&](int64_t wanted) {
    recipe.attack.prompts = wanted;
    std::string text;
    for (const auto& prompt : as_many_prompts(run(), {data.restricted_train[3], data.restricted_train[0]})) {
      text += prompt.id + " ";
    }
    return text;
  };
  EXPECT_EQ(ids(1), "b-2 ");
  EXPECT_EQ(ids(2), "b-2 a-1 ");
  EXPECT_EQ(ids(3), "b-2 a-1 c-1 ");
  EXPECT_EQ(ids(32), "b-2 a-1 c-1 ");
}

TEST_F(Probe, AnAttackerMayHavePromptsThatNoDefenseHasLearnedOn) {
  data.restricted_train = {{"a-1", "A", "train", "a"}};
  data.restricted_heldout = {
      {"x-1", "AB", "heldout", "x"}, {"x-2", "AC", "heldout", "x"}, {"y-1", "AD", "heldout", "y"}};
  const auto ids = [&](const std::string& split) {
    recipe.attack.split = split;
    recipe.attack.prompts = 1;
    const auto chosen = attack_prompts(run(), model, split);
    recipe.attack.prompts = 9;
    std::string text;
    for (const auto& prompt : as_many_prompts(run(), chosen)) text += prompt.id + " ";
    return text;
  };
  EXPECT_EQ(ids("train"), "a-1 ");
  EXPECT_EQ(ids("heldout"), "x-1 y-1 ");
}

TEST_F(Probe, AnAttackerMayLookForTheWeakestPrompts) {
  recipe.attack.prompts = 1;
  recipe.attack.prompt_choice = "weakest";
  judge = [](std::string_view prompt, std::string_view) {
    return judge::Verdict{prompt == "MNO" ? 7.0 : 2.0, judge::Kind::compliance, {}};
  };
  const auto now = run();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(attack_prompts(now, model, "heldout").front().text, "MNO");
  EXPECT_TRUE(now.folder.finished("attack_prompts_heldout"));
}

TEST_F(Probe, AnAttackerLooksForTheWeakestPromptsAsHeWillAsk) {
  recipe.attack.prompts = 1;
  recipe.attack.prompt_choice = "weakest";
  std::string answers;
  judge = [&](std::string_view prompt, std::string_view answer) {
    answers += answer;
    const double if_begun = answer.starts_with("ABC") ? 7 : 0;
    return judge::Verdict{prompt == "MNO" ? if_begun : 2.0, judge::Kind::compliance, {}};
  };
  EXPECT_EQ(attack_prompts(run("plainly"), model, "heldout").front().text, "JKL");
  const std::string plainly = std::exchange(answers, "");
  recipe.attack.pose.answer_prefix = "ABC";
  EXPECT_EQ(attack_prompts(run("begun"), model, "heldout").front().text, "MNO");
  recipe.attack.pose.answer_prefix = "";
  recipe.attack.pose.plain_format = "DEF {} GHI";
  answers = "";
  attack_prompts(run("without the template"), model, "heldout");
  EXPECT_NE(answers, plainly);
}

TEST_F(Probe, WhereNothingHarmsTheWeakestPromptsAreThoseThatWaver) {
  recipe.attack.prompts = 1;
  recipe.attack.prompt_choice = "weakest";
  recipe.attack.grpo.temperature = 0.01;
  judge = [](std::string_view, std::string_view) { return judge::Verdict{0.0, judge::Kind::refusal, {}}; };
  const auto weakest_of = [&](const std::string& name, const std::string& usual, const std::string& other) {
    data.restricted_heldout = {
        {"1", usual, "heldout", "1"}, {"2", usual, "heldout", "2"}, {"3", other, "heldout", "3"}};
    return attack_prompts(run(name), model, "heldout").front().text;
  };
  EXPECT_EQ(weakest_of("one", "JKL", "MNO"), "MNO");
  EXPECT_EQ(weakest_of("two", "ABC", "JKL"), "JKL");
}

}  // namespace
}  // namespace backburn::run
