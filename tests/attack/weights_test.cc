#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "attack/small_attack.h"
#include "backburn/attack/abliteration.h"

namespace backburn::attack {
namespace {

using at::Tensor;

struct ChangedWeights : testing::Test, SmallAttack {
  static bool same(const model::LayerWeights& left, const model::LayerWeights& right) {
    return at::equal(left.q, right.q) && at::equal(left.o, right.o) && at::equal(left.down, right.down);
  }
};

TEST_F(ChangedWeights, NoiseHasTheWantedSize) {
  const auto noise = (noisy(model, 0.1, 7).layers[1].gate - model.weights.layers[1].gate).to(at::kDouble);
  EXPECT_NEAR(noise.std().item<double>() / (0.1 * model.weights.layers[1].gate.std().item<double>()), 1, 0.05);
  EXPECT_LT(std::abs(noise.mean().item<double>()), 0.1 * noise.std().item<double>());
  EXPECT_TRUE(at::equal(noisy(model, 0.1, 7).layers[0].q, noisy(model, 0.1, 7).layers[0].q));
  EXPECT_FALSE(at::equal(noisy(model, 0.1, 7).layers[0].q, noisy(model, 0.1, 8).layers[0].q));
}

TEST_F(ChangedWeights, ReinitialisationSparesTheFirstLayers) {
  const auto changed = reinitialised(model, 1, 7);
  EXPECT_TRUE(same(changed.layers[0], model.weights.layers[0]));
  const auto old = model.weights.layers[1].down.flatten(), drawn = changed.layers[1].down.flatten();
  EXPECT_NEAR((drawn.std() / old.std()).item<double>(), 1, 0.05);
  const auto both = at::corrcoef(at::stack({old, drawn}));
  EXPECT_LT(std::abs(both[0][1].item<double>()), 0.1);
}

TEST_F(ChangedWeights, WarmStartsFollowEachOther) {
  EXPECT_EQ(warm_started(inputs, options), nullptr);
  options.start.warm_start = {"layer-reinit", "weight-noise"};
  const auto both = warm_started(inputs, options);
  const auto by_hand = with_weights(model, reinitialised(model, 1, inputs.seed));
  EXPECT_TRUE(same(both->weights.layers[1], noisy(*by_hand, options.start.weight_noise, inputs.seed).layers[1]));
  EXPECT_FALSE(same(both->weights.layers[0], model.weights.layers[0]));
}

TEST_F(ChangedWeights, AWarmStartedAttackKeepsItsModel) {
  options.start.warm_start = {"sft"};
  options.start.warm_start_steps = 30;
  options.grpo.max_steps = 1;
  const auto warm = harm();
  options.start.warm_start = {};
  EXPECT_GT(warm.front(), harm().front() + 2);
  options.start.warm_start = {"abliteration", "weight-noise"};
  const auto learner = run_attack(inputs, options, {});
  ASSERT_NE(learner.owned, nullptr);
  EXPECT_EQ(learner.base, learner.owned.get());
  EXPECT_FALSE(same(learner.base->weights.layers[0], model.weights.layers[0]));
}

// All weights, in the warm start and in what follows; a tied head stays tied.
TEST_F(ChangedWeights, AFullWarmStartTrainsAllWeights) {
  model = model::tiny_model("tiny_qwen2");
  options.start.warm_start = {"sft", "weight-noise"};
  options.start.warm_start_steps = 5;
  options.grpo.max_steps = 2;
  options.grpo.lora = {.use_peft = false};
  const auto learner = run_attack(inputs, options, {});
  const auto& started = learner.base->weights;
  EXPECT_FALSE(at::equal(started.embedding, model.weights.embedding));
  EXPECT_TRUE(started.head.is_same(started.embedding));
  const auto made = train::trained_weights(learner);
  EXPECT_FALSE(at::equal(made.final_norm, started.final_norm));
  EXPECT_TRUE(made.head.is_same(made.embedding));
}

TEST_F(ChangedWeights, EveryAttackThatTrainsTrainsAllWeightsToo) {
  options.grpo.max_steps = 2;
  options.grpo.lora = {.use_peft = false};
  const auto before = model::tiny_model("tiny_llama").weights;
  for (const auto& [name, estimator] : {std::pair{"grpo", "grpo"},
                                        {"grpo", "gae"},
                                        {"grp-obliteration", "grpo"},
                                        {"sft", "grpo"},
                                        {"benign-sft", "grpo"},
                                        {"refusal-unlearning", "grpo"},
                                        {"dpo", "grpo"}}) {
    SCOPED_TRACE(std::string(name) + " " + estimator);
    options.name = name;
    options.grpo.advantage.advantage_estimator = estimator;
    options.refusal_prefix = "NO";
    int64_t steps = 0;
    AttackEvents events;
    events.on_step = [&](const AttackStep& step, const auto&, const auto&) {
      ++steps;
      EXPECT_TRUE(std::isfinite(step.metrics.loss));
    };
    const auto learner = run_attack(inputs, options, events);
    EXPECT_EQ(steps, 2);
    ASSERT_NE(learner.full, nullptr);
    EXPECT_EQ(learner.value_head.defined(), std::string(estimator) == "gae");
    const auto made = train::trained_weights(learner);
    EXPECT_FALSE(at::equal(made.embedding, before.embedding)) << "nothing learnt";
    EXPECT_FALSE(at::equal(made.layers[0].q, before.layers[0].q)) << "nothing learnt";
    EXPECT_TRUE(at::isfinite(made.layers[0].q).all().item<bool>());
    EXPECT_TRUE(at::equal(model.weights.embedding, before.embedding)) << "the original was changed";
    EXPECT_TRUE(at::equal(model.weights.layers[0].q, before.layers[0].q)) << "the original was changed";
    const auto again = run_attack(inputs, options, {});
    EXPECT_TRUE(at::equal(train::trained_weights(again).layers[0].q, made.layers[0].q));
  }
}

// With layers that write nothing, the state at the last token is its embedding, scaled.
TEST_F(ChangedWeights, TheDirectionIsTheDifferenceOfTheMeans) {
  for (auto& layer : model.weights.layers) {
    layer.o = at::zeros_like(layer.o);
    layer.down = at::zeros_like(layer.down);
  }
  const auto scaled = [&](int64_t token) {
    const auto row = model.weights.embedding[token];
    return row * at::rsqrt(row.square().mean() + model.config.rms_norm_eps);
  };
  const auto expected = (scaled(5) + scaled(6)) / 2 - scaled(9);
  const auto found = refusal_direction(model, {{1, 30, 5}, {1, 6}}, {{1, 20, 9}}, 1);
  EXPECT_LT((found - expected / expected.norm()).abs().max().item<double>(), 1e-5);
}

TEST_F(ChangedWeights, WithoutTheDirectionNothingWritesToIt) {
  const auto direction =
      refusal_direction(model, plain_prompts(model, inputs.prompts, 3), plain_prompts(model, inputs.benign, 4), 1);
  EXPECT_NEAR(direction.norm().item<double>(), 1, 1e-5);
  auto changed = with_weights(model, without_direction(model, direction));
  model::Model scaled_only = *changed;
  scaled_only.weights.final_norm = at::ones_like(scaled_only.weights.final_norm);
  const model::TokenTree tree{{1, 20, 30, 40, 7}, {}};
  const auto states = hidden_states(scaled_only.network(), model::pack({&tree, 1}));
  EXPECT_LT(at::mv(states, direction).abs().max().item<double>(), 1e-5);
  EXPECT_GT(states.norm().item<double>(), 1);
  EXPECT_TRUE(at::equal(changed->weights.head, model.weights.head));
}

struct Pose : testing::Test, SmallAttack {
  Pose() {
    model.chat_template =
        text::ChatTemplate::parse("{% for m in messages %}{{ m['role'][0] }}{{ m['content'] }}{% endfor %}", "test");
  }
  std::string asked(int64_t step) const {
    const auto prompts = posed_prompts(inputs, options.pose, shot_pool(inputs, options.pose), step);
    return model.tokenizer.decode(prompts.front());
  }
};

TEST_F(Pose, SaysWhatTheAttackerPutsIn) {
  EXPECT_EQ(asked(0), "uABC");
  options.pose.answer_prefix = "OK";
  EXPECT_EQ(asked(0), "uABCOK");
  options.pose.system_prompts = {"X", "Y", "Z"};
  std::set<std::string> seen;
  for (int64_t step = 0; step < 20; ++step) seen.insert(asked(step));
  EXPECT_EQ(seen, (std::set<std::string>{"sXuABCOK", "sYuABCOK", "sZuABCOK"}));
  EXPECT_EQ(asked(3), asked(3));
}

TEST_F(Pose, ShowsAnsweredQuestionsFirst) {
  options.pose.few_shot = 2;
  const std::string text = asked(0);
  EXPECT_THAT(text, testing::MatchesRegex("u[xyz]{3}a.*u[xyz]{3}a.*uABC"));
  EXPECT_NE(text, asked(1));
}

}  // namespace
}  // namespace backburn::attack
