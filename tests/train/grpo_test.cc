#include "backburn/train/grpo.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>
#include <thread>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "model/tiny_model.h"

namespace backburn::train {
namespace {

using at::Tensor;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;
using Ids = std::vector<int32_t>;

const std::vector<Ids> three_prompts = {{1, 20, 30, 40}, {1, 7}, {1, 33, 34, 35, 36}};

GrpoOptions small_options() {
  GrpoOptions options;
  options.prompts_per_step = 2;
  options.num_generations = 6;
  options.max_completion_length = 8;
  options.optimizer.learning_rate = 0.02;
  options.lora = {.r = 4, .lora_alpha = 8};
  return options;
}

// How often an answer says "Q".
std::vector<double> count_q(const Group& group) {
  std::vector<double> rewards;
  for (const std::string& text : group.texts)
    rewards.push_back(static_cast<double>(std::count(text.begin(), text.end(), 'Q')));
  return rewards;
}

std::vector<double> nothing(const Group& group) { return std::vector<double>(group.texts.size(), 1.0); }

Tensor all_parameters(const Learner& learner) {
  std::vector<Tensor> list;
  for (const Tensor& parameter : learner.adapter.parameters()) list.push_back(parameter.detach().flatten());
  return at::cat(list);
}

struct Grpo : testing::Test {
  const model::Model model = model::tiny_model("tiny_llama");
  Learner fresh() const { return make_learner(model, {.r = 4, .lora_alpha = 8}, 3); }
  // An adapter that already does something, so that every gradient is there.
  Learner trained() const {
    Learner learner = fresh();
    learner.adapter = model::formula_adapter(model.config, 4);
    return learner;
  }
};

TEST_F(Grpo, LearnsWhatIsRewarded) {
  Learner learner = fresh();
  double first = 0, last = 0;
  for (int step = 0; step < 40; ++step) {
    const double reward = grpo_step(learner, three_prompts, small_options(), 1, count_q).metrics.reward;
    (step < 5 ? first : last) += step < 5 || step >= 35 ? reward / 5 : 0;
  }
  EXPECT_LT(first, 1.5);
  EXPECT_GT(last, 5);
}

// The gradient of the step, the plain way: every answer of every group alone, all logits. `importance_limit`: where
// the ratio to the weights that sampled is cut; 0: no such ratio.
double plain_gradient_norm(const Learner& learner, const std::vector<Group>& groups, const std::vector<Ids>& prompts,
                           double temperature, double importance_limit = 0) {
  auto loss = at::zeros({});
  double answers = 0;
  for (const Group& group : groups) {
    for (size_t i = 0; i < group.completions.size(); ++i) {
      const Ids& answer = group.completions[i].ids;
      Ids ids = prompts[group.prompt];
      const auto before = static_cast<int64_t>(ids.size()) - 1;
      ids.insert(ids.end(), answer.begin(), answer.end());
      const model::TokenTree tree{ids, {}};
      const auto all = logits(learner.network(), hidden_states(learner.network(), model::pack({&tree, 1})));
      const auto rows = at::log_softmax(all.narrow(0, before, static_cast<int64_t>(answer.size())) / temperature, -1);
      const auto chosen = rows.gather(1, at::tensor(answer, at::kLong).unsqueeze(1)).squeeze(1);
      const auto ratio = (chosen.detach() - at::tensor(group.completions[i].logprobs)).exp();
      const auto weights = importance_limit == 0 ? at::ones_like(ratio) : ratio.clamp_max(importance_limit);
      loss = loss - (chosen * weights).mean() * group.advantages[i];
      ++answers;
    }
  }
  (loss / answers).backward();
  double square = 0;
  for (const Tensor& parameter : learner.adapter.parameters()) square += parameter.grad().square().sum().item<double>();
  return std::sqrt(square);
}

TEST_F(Grpo, TheGradientIsThatOfTheDefinition) {
  // Long prompts, so that a step takes two passes; one group without differential among them.
  std::vector<Ids> prompts;
  for (int32_t p = 0; p < 4; ++p) {
    prompts.emplace_back(80, 10 + p);
    prompts.back()[0] = 1;
  }
  GrpoOptions options = small_options();
  options.prompts_per_step = 4;
  options.max_completion_length = 80;
  options.temperature = 1.2;
  auto reward = [](const Group& group) {
    std::vector<double> rewards;
    for (const auto& completion : group.completions)
      rewards.push_back(group.prompt == 2 ? 1 : completion.ids[completion.ids.size() / 2]);
    return rewards;
  };
  for (const int64_t kl_steps : {0, 1}) {
    options.kl_steps = kl_steps;
    Learner learner = trained();
    const StepResult result = grpo_step(learner, prompts, options, 8, reward);
    EXPECT_EQ(result.metrics.frac_reward_zero_std, 0.25);
    EXPECT_EQ(result.metrics.kl.has_value(), kl_steps == 1);
    EXPECT_NEAR(result.metrics.grad_norm / plain_gradient_norm(trained(), result.groups, prompts, 1.2), 1, 1e-4);
  }
}

TEST_F(Grpo, TheUpdateSeesTheLogprobsThatTheRolloutDrewBy) {
  Learner learner = trained();
  const auto metrics = grpo_step(learner, three_prompts, small_options(), 3, count_q).metrics;
  ASSERT_GT(metrics.grad_norm, 0);
  EXPECT_LT(metrics.sampling_logp_difference, 1e-4);
}

TEST(GrpoOnPackedWeights, KeptActivationsGiveTheSameUpdate) {
  const model::Model model = model::packed_model();
  if (!model.weights.packed) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
  const std::vector<Ids> prompts = {{1, 20, 30, 40}, {1, 20}, {1, 33, 34, 35, 36}};
  GrpoOptions options = small_options();
  options.temperature = 2;
  const auto reward = [](const Group& group) {
    std::vector<double> rewards;
    for (const auto& completion : group.completions) rewards.push_back(completion.ids.front() % 7);
    return rewards;
  };
  options.prompts_per_step = 3;
  const auto after = [&](double kept, int64_t iterations) {
    options.kept_activations_gib = kept;
    options.num_iterations = iterations;
    Learner learner = make_learner(model, options.lora, 3);
    learner.adapter = model::formula_adapter(model.config, 4);
    for (int step = 0; step < 3; ++step)
      EXPECT_GT(grpo_step(learner, prompts, options, 1, reward).metrics.grad_norm, 0);
    return all_parameters(learner);
  };
  for (const int64_t iterations : {1, 2}) EXPECT_TRUE(at::equal(after(1, iterations), after(0, iterations)));
}

TEST_F(Grpo, CheckpointingChangesNothing) {
  Learner plain = trained(), checkpointed = trained();
  checkpointed.gradient_checkpointing = true;
  for (int step = 0; step < 2; ++step) {
    for (Learner* learner : {&plain, &checkpointed}) grpo_step(*learner, three_prompts, small_options(), 1, count_q);
  }
  EXPECT_GT((all_parameters(plain) - all_parameters(trained())).norm().item<double>(), 0);
  EXPECT_TRUE(at::equal(all_parameters(checkpointed), all_parameters(plain)));
}

TEST_F(Grpo, EqualRewardsGiveNoGradient) {
  for (const int64_t kl_steps : {0, 1}) {
    GrpoOptions options = small_options();
    options.kl_steps = kl_steps;
    Learner learner = trained();
    const auto before = all_parameters(learner);
    const StepResult result = grpo_step(learner, three_prompts, options, 1, nothing);
    EXPECT_TRUE(at::equal(all_parameters(learner), before));
    EXPECT_EQ(result.metrics.grad_norm, 0);
    EXPECT_EQ(result.metrics.frac_reward_zero_std, 1);
    EXPECT_EQ(learner.step, 1);
  }
}

TEST_F(Grpo, BetaPullsBackToTheModelBeforeTraining) {
  Learner learner = fresh();
  for (int step = 0; step < 10; ++step) grpo_step(learner, three_prompts, small_options(), 1, count_q);
  GrpoOptions options = small_options();
  options.loss.beta = 1;
  options.optimizer.learning_rate = 0.01;
  options.num_generations = 16;
  double first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    const auto kl = grpo_step(learner, three_prompts, options, 1, nothing).metrics.kl;
    ASSERT_TRUE(kl.has_value());
    if (step == 0) first = *kl;
    last = *kl;
  }
  EXPECT_GT(first, 0.1);
  EXPECT_LT(last, first / 5);
}

TEST_F(Grpo, SameSeedSameBitsAndResumeTheSame) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "checkpoint.safetensors";
  GrpoOptions options = small_options();
  options.num_iterations = 2;
  options.optimizer.lr_scheduler_type = "cosine";
  options.optimizer.weight_decay = 0.1;
  Learner straight = fresh();
  for (int step = 0; step < 5; ++step) {
    if (step == 2) save_checkpoint(straight, path);
    grpo_step(straight, three_prompts, options, 1, count_q);
  }
  EXPECT_EQ(checkpoint_step(path), 2);
  Learner resumed = make_learner(model, options.lora, 99);
  EXPECT_FALSE(load_checkpoint(resumed, folder.path() / "none"));
  EXPECT_EQ(checkpoint_step(folder.path() / "none"), 0);
  EXPECT_TRUE(load_checkpoint(resumed, path));
  for (int step = 2; step < 5; ++step) grpo_step(resumed, three_prompts, options, 1, count_q);
  EXPECT_TRUE(at::equal(all_parameters(resumed), all_parameters(straight)));
  EXPECT_EQ(resumed.step, 5);

  Learner again = fresh(), other = fresh();
  for (int step = 0; step < 5; ++step) {
    grpo_step(again, three_prompts, options, 1, count_q);
    grpo_step(other, three_prompts, options, 2, count_q);
  }
  EXPECT_TRUE(at::equal(all_parameters(again), all_parameters(straight)));
  EXPECT_FALSE(at::equal(all_parameters(other), all_parameters(straight)));
}

TEST_F(Grpo, ACheckpointOfAnotherRankOrDamagedIsAnError) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "checkpoint.safetensors";
  save_checkpoint(make_learner(model, {.r = 2, .lora_alpha = 4}, 1), path);
  Learner learner = fresh();
  EXPECT_THROW(load_checkpoint(learner, path), Error);
  write_file(path, read_file(path).substr(0, 500));
  EXPECT_THROW(load_checkpoint(learner, path), Error);
}

TEST_F(Grpo, APromptThatComesUpTwiceGetsOtherAnswers) {
  GrpoOptions options = small_options();
  Learner learner = fresh();
  const StepResult result = grpo_step(learner, std::vector<Ids>{three_prompts[0]}, options, 1, nothing);
  std::set<Ids> answers;
  for (const Group& group : result.groups) {
    for (const auto& completion : group.completions) answers.insert(completion.ids);
  }
  EXPECT_EQ(answers.size(), 12);
}

TEST_F(Grpo, DescribesTheStep) {
  Learner learner = fresh();
  const StepResult result = grpo_step(learner, three_prompts, small_options(), 1, count_q);
  const StepMetrics& metrics = result.metrics;
  double reward = 0, tokens = 0, entropy = 0;
  for (const Group& group : result.groups) {
    for (size_t i = 0; i < 6; ++i) {
      const auto& completion = group.completions[i];
      EXPECT_EQ(group.texts[i], model.tokenizer.decode(completion.ids));
      reward += group.rewards[i] / 12;
      tokens += static_cast<double>(completion.ids.size());
      for (const float each : completion.entropies) entropy += each;
    }
  }
  EXPECT_EQ(metrics.step, 1);
  EXPECT_NEAR(metrics.reward, reward, 1e-9);
  EXPECT_NEAR(metrics.completion_length, tokens / 12, 1e-9);
  EXPECT_NEAR(metrics.entropy, entropy / tokens, 1e-5);
  EXPECT_NEAR(*metrics.kl, 0, 1e-6);  // a fresh adapter is the model
  EXPECT_EQ(metrics.learning_rate, 0.02);
  EXPECT_GT(metrics.grad_norm, 0);
  EXPECT_EQ(metrics.to_json()["kl"], *metrics.kl);
}

TEST_F(Grpo, EveryLossTypeTakesTwoIterations) {
  for (const char* type : {"grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo"}) {
    GrpoOptions options = small_options();
    options.loss.loss_type = type;
    options.num_iterations = 2;
    Learner learner = trained();
    const auto metrics = grpo_step(learner, three_prompts, options, 1, count_q).metrics;
    EXPECT_GT(metrics.grad_norm, 0) << type;
    EXPECT_LE(metrics.clip_ratio, 1) << type;
  }
}

TEST_F(Grpo, DynamicSamplingGoesOnUntilEnoughGroupsDiffer) {
  GrpoOptions options = small_options();
  options.max_num_gen_batches = 5;
  // Prompt 0 never has a differential, so that a step of two groups seldom has enough at once.
  auto reward = [](const Group& group) {
    auto rewards = count_q(group);
    for (double& each : rewards) each = group.prompt == 0 ? 1 : each + static_cast<double>(&each - rewards.data());
    return rewards;
  };
  bool resampled = false;
  Learner learner = trained();
  for (int step = 0; step < 4; ++step) {
    const auto groups = grpo_step(learner, three_prompts, options, 1, reward).groups;
    int64_t learnt = 0;
    for (const Group& group : groups) {
      learnt += group.advantages.empty() ? 0 : 1;
      EXPECT_TRUE(group.prompt != 0 || group.advantages.empty());
    }
    EXPECT_EQ(learnt, 2);
    resampled = resampled || groups.size() > 2;
  }
  EXPECT_TRUE(resampled);

  learner = trained();
  const auto before = all_parameters(learner);
  const auto result = grpo_step(learner, three_prompts, options, 1, nothing);
  EXPECT_EQ(result.groups.size(), 10);  // up to the limit
  EXPECT_FALSE(result.metrics.kl.has_value());
  EXPECT_TRUE(at::equal(all_parameters(learner), before));
  std::set<Ids> answers;
  for (const Group& group : result.groups) {
    for (const auto& completion : group.completions) answers.insert(completion.ids);
  }
  EXPECT_EQ(answers.size(), 60);
}

TEST_F(Grpo, TheEntropyBonusActsWithoutADifferential) {
  GrpoOptions options = small_options();
  options.loss.entropy_coef = 1;
  double first = 0, last = 0;
  Learner learner = fresh();
  for (int step = 0; step < 15; ++step) grpo_step(learner, three_prompts, small_options(), 1, count_q);
  for (int step = 0; step < 20; ++step) {
    last = grpo_step(learner, three_prompts, options, 1, nothing).metrics.entropy;
    if (step == 0) first = last;
  }
  EXPECT_GT(last, first + 0.3);
}

TEST_F(Grpo, EveryEstimatorLearns) {
  for (const char* name : {"rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline"}) {
    GrpoOptions options = small_options();
    options.advantage.advantage_estimator = name;
    Learner learner = fresh();
    double first = 0, last = 0;
    for (int step = 0; step < 30; ++step) {
      const double reward = grpo_step(learner, three_prompts, options, 1, count_q).metrics.reward;
      (step < 5 ? first : last) += step < 5 || step >= 25 ? reward / 5 : 0;
    }
    EXPECT_GT(last, first + 1) << name;
  }
}

TEST_F(Grpo, PpoLearnsWithItsCritic) {
  GrpoOptions options = small_options();
  options.advantage.advantage_estimator = "gae";
  options.loss.loss_type = "dapo";
  options.num_iterations = 2;
  Learner learner = make_grpo_learner(model, options, 3);
  double first = 0, last = 0;
  for (int step = 0; step < 40; ++step) {
    const double reward = grpo_step(learner, three_prompts, options, 1, count_q).metrics.reward;
    (step < 5 ? first : last) += step < 5 || step >= 35 ? reward / 5 : 0;
  }
  EXPECT_GT(last, first + 1);
  EXPECT_GT(learner.value_head.abs().sum().item<double>(), 0.01);

  const TemporaryFolder folder;
  save_checkpoint(learner, folder.path() / "checkpoint.safetensors");
  Learner resumed = make_grpo_learner(model, options, 3);
  load_checkpoint(resumed, folder.path() / "checkpoint.safetensors");
  EXPECT_TRUE(at::equal(resumed.value_head, learner.value_head));
  Learner without = fresh();
  EXPECT_THROW(load_checkpoint(without, folder.path() / "checkpoint.safetensors"), Error);
  EXPECT_THROW(grpo_step(without, three_prompts, options, 1, count_q), std::logic_error);
}

TEST_F(Grpo, AnExtraGradientIsAdded) {
  Learner learner = trained();
  const auto before = all_parameters(learner);
  const auto result = grpo_step(learner, three_prompts, small_options(), 1, nothing, [](const model::Network& network) {
    const auto loss = network.adapter->layers[0][0].a.sum();
    loss.backward();
    return loss.item<double>();
  });
  EXPECT_GT(result.metrics.grad_norm, 1);
  EXPECT_FALSE(at::equal(all_parameters(learner), before));
}

// Answers that are one update behind: max_staleness 1.
struct Staleness : Grpo {
  static GrpoOptions stale_options() {
    GrpoOptions options = small_options();
    options.max_steps = 40;
    options.max_staleness = 1;
    return options;
  }
  static std::vector<Ids> same_prompts(int64_t) { return three_prompts; }
  static std::vector<std::vector<Ids>> ids_of(const std::vector<Group>& groups) {
    std::vector<std::vector<Ids>> all;
    for (const Group& group : groups) {
      auto& answers = all.emplace_back();
      for (const auto& completion : group.completions) answers.push_back(completion.ids);
    }
    return all;
  }
};

TEST_F(Staleness, AStepLearnsFromAnswersOfTheWeightsBeforeTheLastUpdate) {
  Learner learner = trained(), first_weights = trained();
  Ahead ahead;
  const auto options = stale_options();
  const auto first = grpo_step(learner, same_prompts, options, 1, count_q, ahead);
  EXPECT_EQ(ids_of(first.groups), ids_of(sample_groups(first_weights, three_prompts, options, 1)));
  EXPECT_FALSE(first.metrics.importance_sampling_ratio.has_value());  // its own weights sampled
  EXPECT_LT(first.metrics.sampling_logp_difference, 1e-4);

  first_weights.step = 1;
  const auto second = grpo_step(learner, same_prompts, options, 1, count_q, ahead);
  EXPECT_EQ(ids_of(second.groups), ids_of(sample_groups(first_weights, three_prompts, options, 1)));
  EXPECT_GT(second.metrics.sampling_logp_difference, 0.01);
  EXPECT_NE(*second.metrics.importance_sampling_ratio, 1);
  EXPECT_NEAR(*second.metrics.importance_sampling_ratio, 1, 0.5);
}

TEST_F(Staleness, TheGradientIsWeightedByTheRatioOfTheTwo) {
  const auto gradient_norm = [&](const char* mode, double clip_max) {
    auto options = stale_options();
    options.loss.importance_sampling_mode = mode;
    options.loss.importance_sampling_clip_max = clip_max;
    Learner learner = trained();
    Ahead ahead;
    grpo_step(learner, same_prompts, options, 1, count_q, ahead);
    return grpo_step(learner, same_prompts, options, 1, count_q, ahead);
  };
  // What the second step starts from.
  Learner before = trained();
  Ahead ahead;
  grpo_step(before, same_prompts, stale_options(), 1, count_q, ahead);
  for (const auto& [mode, clip_max] : {std::pair{"none", 3.0}, {"token_truncate", 3.0}, {"token_truncate", 1.0}}) {
    const auto result = gradient_norm(mode, clip_max);
    const double limit = std::string(mode) == "none" ? 0 : clip_max;
    const double expected = plain_gradient_norm(before, result.groups, three_prompts, 1.0, limit);
    EXPECT_NEAR(result.metrics.grad_norm / expected, 1, 1e-4) << mode << clip_max;
    for (const Tensor& parameter : before.adapter.parameters()) parameter.mutable_grad().reset();
  }
}

TEST_F(Staleness, SameBitsHoweverLongTheJudgeTakesAndWhereverTheRunGoesOn) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "checkpoint.safetensors";
  const auto options = stale_options();
  auto slowly = [](const Group& group) {
    std::this_thread::sleep_for(std::chrono::milliseconds(group.prompt * 3));
    return count_q(group);
  };
  Learner quick = fresh(), slow = fresh(), stopped = fresh(), resumed = fresh();
  Ahead of_quick, of_slow, of_stopped, of_resumed;
  std::vector<bool> stale;
  for (int step = 0; step < 13; ++step) {
    const auto metrics = grpo_step(quick, same_prompts, options, 1, count_q, of_quick).metrics;
    stale.push_back(metrics.importance_sampling_ratio.has_value());
    grpo_step(slow, same_prompts, options, 1, slowly, of_slow);
  }
  EXPECT_TRUE(at::equal(all_parameters(slow), all_parameters(quick)));
  EXPECT_THAT(stale, ElementsAre(false, true, true, true, true, true, true, true, true, true, false, true, true));

  for (int step = 0; step < 12; ++step) {
    if (step == checkpoint_steps) save_checkpoint(stopped, path);
    grpo_step(stopped, same_prompts, options, 1, count_q, of_stopped);
  }
  load_checkpoint(resumed, path);
  for (int step = checkpoint_steps; step < 13; ++step) {
    grpo_step(resumed, same_prompts, options, 1, count_q, of_resumed);
  }
  EXPECT_TRUE(at::equal(all_parameters(resumed), all_parameters(quick)));
}

TEST_F(Staleness, LearnsAllTheSame) {
  Learner learner = fresh();
  Ahead ahead;
  double first = 0, last = 0;
  for (int step = 0; step < 40; ++step) {
    const double reward = grpo_step(learner, same_prompts, stale_options(), 1, count_q, ahead).metrics.reward;
    (step < 5 ? first : last) += step < 5 || step >= 35 ? reward / 5 : 0;
  }
  EXPECT_LT(first, 1.5);
  EXPECT_GT(last, 4);
  EXPECT_EQ(ahead.step, -1);  // nothing is sampled for a step that never comes
}

TEST_F(Staleness, GoesWithTheCriticAndNotWithDynamicSampling) {
  auto options = stale_options();
  options.advantage.advantage_estimator = "gae";
  options.num_iterations = 2;
  Learner learner = make_grpo_learner(model, options, 3);
  Ahead ahead;
  for (int step = 0; step < 3; ++step) {
    EXPECT_GT(grpo_step(learner, same_prompts, options, 1, count_q, ahead).metrics.grad_norm, 0);
  }
  options = stale_options();
  options.max_num_gen_batches = 2;
  EXPECT_THROW(grpo_step(learner, same_prompts, options, 1, count_q, ahead), Error);
  options = stale_options();
  EXPECT_THROW(grpo_step(learner, three_prompts, options, 1, count_q), std::logic_error);
  auto broken = [](const Group&) -> std::vector<double> { fail("the judge is gone"); };
  EXPECT_THROW(grpo_step(learner, same_prompts, options, 1, broken, ahead), Error);
}

TEST(StalenessOnPackedWeights, OldActivationsAreNotUsed) {
  const model::Model model = model::packed_model();
  if (!model.weights.packed) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
  const auto prompts = [](int64_t) { return std::vector<Ids>{{1, 20, 30, 40}, {1, 20}}; };
  const auto reward = [](const Group& group) {
    std::vector<double> rewards;
    for (const auto& completion : group.completions) rewards.push_back(completion.ids.front() % 7);
    return rewards;
  };
  const auto after = [&](double kept) {
    auto options = small_options();
    options.max_staleness = 1;
    options.kept_activations_gib = kept;
    Learner learner = make_learner(model, options.lora, 3);
    learner.adapter = model::formula_adapter(model.config, 4);
    Ahead ahead;
    for (int step = 0; step < 3; ++step) grpo_step(learner, prompts, options, 1, reward, ahead);
    return all_parameters(learner);
  };
  EXPECT_TRUE(at::equal(after(1), after(0)));
}

TEST_F(Grpo, StopsWhenAskedOrWhenItDiverges) {
  Learner learner = fresh();
  request_stop();
  EXPECT_THROW(grpo_step(learner, three_prompts, small_options(), 1, count_q), Error);
  request_stop(false);
  auto broken = [](const Group& group) { return std::vector<double>(group.texts.size(), std::nan("")); };
  try {
    grpo_step(learner, three_prompts, small_options(), 1, broken);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("not a number"));
  }
}

TEST(GrpoPrompts, EveryPromptComesUpOnceARound) {
  std::vector<size_t> all;
  for (int64_t step = 0; step < 6; ++step) {
    for (const size_t prompt : prompts_of_step(4, 2, step, 7)) all.push_back(prompt);
  }
  for (int round = 0; round < 3; ++round) {
    EXPECT_THAT(std::vector(all.begin() + 4 * round, all.begin() + 4 * round + 4), UnorderedElementsAre(0, 1, 2, 3));
  }
  EXPECT_THAT(prompts_of_step(1, 3, 5, 7), ElementsAre(0, 0, 0));
  EXPECT_EQ(prompts_of_step(9, 5, 3, 7), prompts_of_step(9, 5, 3, 7));
}

TEST(GrpoOptionsYaml, EveryOptionHasAName) {
  GrpoOptions grpo;
  Options options;
  bind(options, "attack", grpo);
  options.load_yaml("attack:\n  num_generations: 4\n  loss_type: dapo\n  learning_rate: 1e-5\n  r: 8\n", "recipe.yaml");
  EXPECT_EQ(grpo.num_generations, 4);
  EXPECT_EQ(grpo.loss.loss_type, "dapo");
  EXPECT_EQ(grpo.optimizer.learning_rate, 1e-5);
  EXPECT_EQ(grpo.lora.r, 8);
  EXPECT_THROW(options.set("attack.num_generations=1"), Error);
}

}  // namespace
}  // namespace backburn::train
