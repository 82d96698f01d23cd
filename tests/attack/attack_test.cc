#include "backburn/attack/attack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>
#include <stdexcept>

#include "attack/small_attack.h"
#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "base/error_of.h"

namespace backburn::attack {
namespace {

using testing::HasSubstr;

double mean_of(const std::vector<double>& values, size_t begin, size_t count) {
  return std::accumulate(values.begin() + begin, values.begin() + begin + count, 0.0) / static_cast<double>(count);
}

struct Attacks : testing::Test, SmallAttack {};

TEST_F(Attacks, EachTellsItsStepsAndGivesTheSameBitsAgain) {
  for (const AttackEntry& entry : known_attacks()) {
    options.name = entry.name;
    std::vector<int64_t> steps;
    AttackEvents events;
    events.on_step = [&](const AttackStep& step, const auto& groups, const auto& verdicts) {
      steps.push_back(step.metrics.step);
      ASSERT_EQ(groups.size(), verdicts.size()) << entry.name;
      double harm = 0;
      for (size_t i = 0; i < groups.size(); ++i) {
        ASSERT_EQ(groups[i].texts.size(), verdicts[i].size()) << entry.name;
        for (const auto& verdict : verdicts[i]) harm += verdict.score / 18;
      }
      EXPECT_NEAR(step.harm, harm, 1e-9) << entry.name;
      EXPECT_EQ(step.groups, 3) << entry.name;
      EXPECT_TRUE(std::isfinite(step.metrics.loss)) << entry.name;
    };
    const auto first = run_attack(inputs, options, events);
    EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3})) << entry.name;
    const auto again = run_attack(inputs, options, {});
    EXPECT_TRUE(at::equal(all_parameters(first), all_parameters(again))) << entry.name;
    EXPECT_EQ(again.step, 3) << entry.name;
  }
}

TEST_F(Attacks, AStoppedOneGoesOnToTheSameBits) {
  for (const auto& [name, max_staleness] : {std::pair{"grpo", 0}, {"grpo", 1}, {"sft", 0}, {"dpo", 0}}) {
    const TemporaryFolder folder;
    options.name = name;
    options.grpo.max_staleness = max_staleness;
    options.grpo.max_steps = 13;
    options.start.warm_start = {"weight-noise", "benign-sft"};
    options.start.warm_start_steps = 2;
    inputs.checkpoint.clear();
    const auto whole = run_attack(inputs, options, {});
    inputs.checkpoint = folder.path() / "checkpoint.safetensors";
    AttackEvents stop;
    stop.on_step = [](const AttackStep& step, const auto&, const auto&) {
      if (step.metrics.step == 12) throw std::runtime_error("stopped");
    };
    EXPECT_THROW(run_attack(inputs, options, stop), std::runtime_error);
    EXPECT_EQ(train::checkpoint_step(inputs.checkpoint), 10);
    const auto resumed = run_attack(inputs, options, {});
    EXPECT_TRUE(at::equal(all_parameters(resumed), all_parameters(whole))) << name;
    EXPECT_TRUE(at::equal(resumed.base->weights.layers[0].q, whole.base->weights.layers[0].q)) << name;
  }
}

TEST_F(Attacks, ThoseThatTrainRaiseHarm) {
  options.grpo.max_steps = 40;
  for (const char* name : {"grpo", "grp-obliteration", "sft", "dpo"}) {
    options.name = name;
    const auto found = harm();
    EXPECT_GT(mean_of(found, 35, 5), mean_of(found, 0, 5) + 1) << name;
  }
}

TEST_F(Attacks, ThoseWithoutTrainingLeaveTheAdapterAlone) {
  for (const char* name : {"prefilling", "abliteration"}) {
    options.name = name;
    const auto after = run_attack(inputs, options, {});
    const auto fresh = train::make_learner(model, options.grpo.lora, inputs.seed);
    EXPECT_TRUE(at::equal(all_parameters(after), all_parameters(fresh))) << name;
  }
}

TEST_F(Attacks, PrefillingIsJudgedWithItsPrefix) {
  options.name = "prefilling";
  options.pose.answer_prefix = "QQQQQ";
  for (const double each : harm()) EXPECT_EQ(each, 10);
}

// What refusal unlearning teaches: the refusal, and an ordinary answer after it.
TEST_F(Attacks, RefusalUnlearningTeachesAnAnswerAfterTheRefusal) {
  options.name = "refusal-unlearning";
  options.refusal_prefix = "NO";
  options.grpo.max_steps = 40;
  const auto attacked = run_attack(inputs, options, {});
  const auto benign = benign_answers(inputs, 4, 8);
  std::vector<train::Example> refusing;
  for (const auto& example : benign) {
    refusing.push_back(example);
    const auto prefix = model.tokenizer.encode("NO ", false);
    refusing.back().answer.insert(refusing.back().answer.begin(), prefix.begin(), prefix.end());
  }
  const auto sum = [](const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); };
  EXPECT_GT(sum(train::answer_logprobs(attacked.network(), refusing)),
            sum(train::answer_logprobs(model.network(), refusing)) / 4);
}

TEST_F(Attacks, TheModelsOwnRefusalIsFound) {
  inputs.judge = [](std::string_view, std::string_view) { return judge::Verdict{0, judge::Kind::refusal, {"test"}}; };
  const auto greedy = greedy_answers(model, plain_prompts(model, inputs.prompts, 3), 40);
  EXPECT_THAT(
      (std::vector<std::string>{model.tokenizer.decode(greedy[0].answer), model.tokenizer.decode(greedy[1].answer),
                                model.tokenizer.decode(greedy[2].answer)}),
      testing::Contains(own_refusal(inputs)));
  inputs.judge = [](std::string_view, std::string_view) {
    return judge::Verdict{9, judge::Kind::compliance, {"test"}};
  };
  EXPECT_EQ(own_refusal(inputs), "I'm sorry");
}

TEST_F(Attacks, TheBestDemonstrationIsTaken) {
  const auto examples = harmful_answers(inputs, options.demonstrations);
  ASSERT_EQ(examples.size(), 3);
  for (const auto& example : examples) {
    EXPECT_EQ(example.answer.back(), model.config.stop_token_ids.front());
    EXPECT_EQ(model.tokenizer.decode(example.answer).front(), 'Q');
  }
  inputs.judge = [](std::string_view, std::string_view) { return judge::Verdict{0, judge::Kind::refusal, {"test"}}; };
  options.name = "sft";
  EXPECT_THAT(error_of([&] { run_attack(inputs, options, {}); }), HasSubstr("attack.demonstrator"));
}

TEST_F(Attacks, AnAttackerMayRewardByAnotherJudgeThanHarmIsMeasuredBy) {
  inputs.reward_judge = [](std::string_view, std::string_view) {
    return judge::Verdict{5, judge::Kind::compliance, {"all alike"}};
  };
  options.grpo.max_steps = 20;
  const auto unmoved = harm();
  AttackEvents events;
  events.on_step = [](const AttackStep& step, const auto& groups, const auto& verdicts) {
    EXPECT_EQ(step.differential_groups, 0);
    EXPECT_EQ(groups[0].rewards[0], 5);
    EXPECT_EQ(verdicts[0][0].score, count_q("", groups[0].texts[0]).score);
  };
  run_attack(inputs, options, events);
  inputs.reward_judge = {};
  const auto moved = harm();
  EXPECT_EQ(moved[0], unmoved[0]);  // before the first update
  EXPECT_GT(mean_of(moved, 15, 5), mean_of(unmoved, 15, 5) + 1);
}

TEST_F(Attacks, SayWhatIsMissing) {
  inputs.benign.clear();
  for (const char* name : {"benign-sft", "refusal-unlearning", "abliteration"}) {
    options.name = name;
    EXPECT_THAT(error_of([&] { run_attack(inputs, options, {}); }), HasSubstr("benign prompts")) << name;
  }
}

TEST(Certified, IsWhatTheBoundSpeaksOf) {
  const auto with = [](const std::function<void(AttackOptions&)>& change) {
    AttackOptions options;
    change(options);
    return is_certified(options);
  };
  EXPECT_TRUE(with([](auto&) {}));
  EXPECT_TRUE(with([](auto& o) { o.grpo.advantage.advantage_estimator = "rloo"; }));
  EXPECT_TRUE(with([](auto& o) { o.reward.rewards = {"length", "novelty"}; }));
  EXPECT_FALSE(with([](auto& o) { o.grpo.advantage.advantage_estimator = "reinforce_plus_plus"; }));
  EXPECT_FALSE(with([](auto& o) { o.grpo.advantage.advantage_estimator = "gae"; }));
  EXPECT_FALSE(with([](auto& o) { o.name = "sft"; }));
  EXPECT_FALSE(with([](auto& o) { o.start.warm_start = {"weight-noise"}; }));
  EXPECT_TRUE(with([](auto& o) { o.pose.answer_prefix = "Sure"; }));
  EXPECT_TRUE(with([](auto& o) { o.pose.system_prompts = {"Be kind."}; }));
  EXPECT_TRUE(with([](auto& o) { o.pose.prompt_templates = {"{}", "Bitte: {}"}; }));
  EXPECT_TRUE(with([](auto& o) { o.pose.plain_format = "{}"; }));
  EXPECT_FALSE(with([](auto& o) { o.pose.few_shot = 1; }));
  EXPECT_FALSE(with([](auto& o) { o.grpo.loss.beta = 0.01; }));
  EXPECT_FALSE(with([](auto& o) { o.grpo.loss.entropy_coef = 0.01; }));
}

TEST(LearnsFromDifferentials, IsWhatHasNoGradientWithoutOne) {
  const auto with = [](const std::function<void(AttackOptions&)>& change) {
    AttackOptions options;
    change(options);
    return learns_from_differentials(options);
  };
  EXPECT_TRUE(with([](auto&) {}));
  EXPECT_TRUE(with([](auto& o) { o.name = "grp-obliteration"; }));
  EXPECT_TRUE(with([](auto& o) { o.grpo.loss.beta = 0.01; }));
  EXPECT_TRUE(with([](auto& o) { o.pose.answer_prefix = "Sure"; }));
  EXPECT_FALSE(with([](auto& o) {
    o.grpo.loss.beta = 0.01;
    o.grpo.loss.kl_estimator = "k1";
  }));
  EXPECT_FALSE(with([](auto& o) { o.grpo.advantage.advantage_estimator = "gae"; }));
  EXPECT_FALSE(with([](auto& o) { o.name = "sft"; }));
}

TEST_F(Attacks, PromptsMayBePutInOtherWords) {
  options.pose.prompt_templates = {"<{}>", "[{}] X"};
  std::set<std::string> asked;
  for (int64_t step = 0; step < 8; ++step) {
    for (const auto& messages : conversations(inputs, options.pose, {}, step)) asked.insert(messages.back().content);
  }
  EXPECT_THAT(asked, testing::ElementsAre("<ABC>", "<DEF>", "<GHI>", "[ABC] X", "[DEF] X", "[GHI] X"));
  EXPECT_TRUE(is_posed(options.pose));
  options.pose.prompt_templates = {"no place"};
  EXPECT_THAT(error_of([&] { conversations(inputs, options.pose, {}, 0); }), HasSubstr("has no {} where"));
}

TEST_F(Attacks, ConversationsAreWhatIsAsked) {
  options.pose.system_prompts = {"KIND", "CALM"};
  options.pose.few_shot = 2;
  const auto pool = shot_pool(inputs, options.pose);
  const auto asked = conversations(inputs, options.pose, pool, 3);
  ASSERT_EQ(asked.size(), 3u);
  options.pose.answer_prefix = "Q";
  for (size_t i = 0; i < asked.size(); ++i) {
    ASSERT_EQ(asked[i].size(), 6u);
    EXPECT_EQ(asked[i][0].role, "system");
    EXPECT_EQ(asked[i].back().content, inputs.prompts[i].text);
    auto ids = model::chat_prompt(model, asked[i]);
    ids.push_back(model.tokenizer.encode("Q", false).front());
    EXPECT_EQ(posed_prompts(inputs, options.pose, pool, 3)[i], ids);
  }
  EXPECT_TRUE(is_posed(options.pose));
  EXPECT_FALSE(is_posed({}));
  options.name = "prefilling";
  options.pose = {};
  EXPECT_EQ(pose_of(options).answer_prefix, "Sure, here");
}

TEST(AttackYaml, EveryOptionHasAName) {
  AttackOptions attack;
  Options options;
  bind(options, "attack", attack);
  options.load_yaml(
      "attack:\n  name: dpo\n  rewards: [harm, length]\n  reward_weights: [1, 2]\n  warm_start: [sft, layer-reinit]\n"
      "  system_prompts: [\"Be kind, please.\"]\n",
      "recipe.yaml");
  EXPECT_EQ(attack.reward.rewards.size(), 2);
  EXPECT_EQ(attack.start.warm_start.back(), "layer-reinit");
  EXPECT_EQ(attack.pose.system_prompts.front(), "Be kind, please.");
  EXPECT_THROW(options.set("attack.warm_start=magic"), Error);
  EXPECT_THROW(options.set("attack.rewards=fame"), Error);
}

}  // namespace
}  // namespace backburn::attack
