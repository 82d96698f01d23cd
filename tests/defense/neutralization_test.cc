#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <stdexcept>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/defense/anchored.h"
#include "backburn/defense/begun_answers.h"
#include "backburn/defense/certificate.h"
#include "backburn/defense/reward_neutralization.h"
#include "backburn/defense/shadow.h"
#include "backburn/text/wordings.h"
#include "model/tiny_model.h"

namespace backburn::defense {
namespace {

class Neutralization : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* text : {"ABC", "ACB", "BAC", "BCA", "CAB", "CBA", "DEF", "DFE", "EDF", "EFD"}) {
      inputs.restricted.push_back({text, text, "train", ""});
    }
    inputs.model = &model;
    inputs.benign = train::taught(model.network(), {{model::chat_prompt(model, "XYZ"), {60, 61, 2}}});
    inputs.refusals = {"NO"};
    inputs.judge = [](std::string_view, std::string_view answer) {
      return judge::Verdict{0, answer == "NO" ? judge::Kind::refusal : judge::Kind::broken, {"test"}};
    };
    inputs.seed = 1;
    auto& options = defense.neutralization;
    options.rl_steps = 2;
    options.rl_max_completion_length = 4;
    options.sharpen_temperatures = {1, 2};
    options.sharpen_steps = 14;
    options.sharpen_batch = 4;
    options.anchor.anchor_batch = 1;
    options.optimizer.learning_rate = 0.02;
    options.lora = {.r = 4, .lora_alpha = 8};
  }

  double largest_p(const train::Learner& learner) const {
    return certify(model, learner.network(), inputs.restricted, "NO", {}).temperatures.front().p_max;
  }

  model::Model model = model::tiny_model("tiny_llama");
  DefenseInputs inputs;
  DefenseOptions defense;
};

TEST_F(Neutralization, TheWeakestPromptRefusesMore) {
  const auto before = train::make_learner(model, defense.neutralization.lora, 1);
  EXPECT_GT(largest_p(before), 0.99);
  std::vector<std::string> phases;
  const auto after = run_reward_neutralization(inputs, defense, [&](const DefenseStep& step) {
    if (phases.empty() || phases.back() != step.phase) phases.push_back(step.phase);
  });
  EXPECT_LT(largest_p(after), 0.2);
  EXPECT_EQ(phases, (std::vector<std::string>{"rl", "sharpen T=1", "sharpen T=2"}));
}

TEST_F(Neutralization, AStoppedRunGoesOnToTheSameBits) {
  inputs.wordings = {"WWVV{}", "{}QQRR", "X{}Y"};  // other ones in each round
  defense.neutralization.wording_share = 1;
  defense.neutralization.sharpen_steps = 9;  // both restarts are in the step behind a checkpoint
  defense.neutralization.restart_steps = 10;
  defense.neutralization.restarts = 2;
  inputs.further = 1;
  defense.neutralization.further_from_restart = 2;
  const auto whole = run_reward_neutralization(inputs, defense, {});
  const auto folder = std::filesystem::temp_directory_path() / "backburn_neutralization_test";
  std::filesystem::create_directories(folder);
  inputs.checkpoint = folder / "checkpoint.safetensors";
  std::filesystem::remove(inputs.checkpoint);
  EXPECT_THROW(run_reward_neutralization(inputs, defense,
                                         [](const DefenseStep& step) {
                                           if (step.step == 33) throw std::runtime_error("stopped");
                                         }),
               std::runtime_error);
  const auto resumed = run_reward_neutralization(inputs, defense, {});
  std::filesystem::remove_all(folder);
  const auto wanted = whole.adapter.parameters(), found = resumed.adapter.parameters();
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(at::equal(found[i], wanted[i])) << "parameter " << i;
}

// How far apart two adapters are, at the most.
double distance(const train::Learner& left, const train::Learner& right) {
  const auto was = left.adapter.parameters(), is = right.adapter.parameters();
  double largest = 0;
  for (size_t i = 0; i < was.size(); ++i) largest = std::max(largest, (is[i] - was[i]).abs().max().item<double>());
  return largest;
}

TEST_F(Neutralization, FurtherPromptsTakePartFromTheirRestartOn) {
  auto& options = defense.neutralization;
  const auto all = inputs.restricted;
  inputs.restricted.pop_back();
  const auto narrow = run_reward_neutralization(inputs, defense, {});
  inputs.restricted = all;
  inputs.further = 1;
  options.further_from_restart = 1;
  EXPECT_THROW(run_reward_neutralization(inputs, defense, {}), Error);  // there is none
  options.restart_steps = 1;
  options.restart_learning_rate = 1e-12;
  EXPECT_LT(distance(run_reward_neutralization(inputs, defense, {}), narrow), 1e-9);
  options.further_from_restart = 0;
  EXPECT_GT(distance(run_reward_neutralization(inputs, defense, {}), narrow), 1e-6);

  options.restart_steps = 10;
  options.restart_learning_rate = 0.01;
  options.further_from_restart = 1;
  inputs.wordings = {"WWVV{}"};
  options.wording_share = 1;
  std::vector<double> losses;
  run_reward_neutralization(inputs, defense, [&](const DefenseStep& step) { losses.push_back(step.loss); });
  const size_t restart = losses.size() - 10;
  EXPECT_GT(losses[restart], losses[restart - 1]);  // the further prompt is new there
  EXPECT_LT(losses.back(), losses[restart]);
}

TEST_F(Neutralization, ARestartIsAveragedWithWhatItBeganFrom) {
  auto& options = defense.neutralization;
  options.optimizer.lr_scheduler_type = "linear";
  const auto before = run_reward_neutralization(inputs, defense, {});
  const auto moved = [&](int64_t steps, double rate) {
    options.restart_steps = steps;
    options.restart_learning_rate = rate;
    std::string last;
    const auto after = run_reward_neutralization(inputs, defense, [&](const DefenseStep& step) { last = step.phase; });
    EXPECT_EQ(last, "restart T=2");
    return distance(after, before);
  };
  EXPECT_LT(moved(5, 1e-12), 1e-9);  // the schedule before it is the same
  // The first step of an AdamW without memory is as long as its rate, whatever the gradient; the mean goes half of it.
  EXPECT_NEAR(moved(1, 0.01), 0.005, 1e-5);
  options.restarts = 2;  // the second goes on from the first one's mean
  EXPECT_NEAR(moved(1, 0.01), 0.01, 1e-5);
  options.restart_average = false;
  EXPECT_NEAR(moved(1, 0.01), 0.02, 1e-5);
  options.sharpen_temperatures.clear();
  EXPECT_THROW(run_reward_neutralization(inputs, defense, {}), Error);
}

TEST_F(Neutralization, HardAnchorsAreThoseNearestToARefusal) {
  std::vector<train::Example> benign;
  for (const char* text : {"UVWX", "XWVU", "ABC", "VUXW", "WXUV", "DEF", "UXVW", "XUWV"}) {
    benign.push_back({model::chat_prompt(model, text), {60, 61, 2}});
  }
  const auto learner = run_reward_neutralization(inputs, defense, {});  // refuses ABC and DEF
  const auto refusal = answer_ids(model, "NO");
  const auto nearest = nearest_to_refused(learner, benign, refusal, 9);
  EXPECT_THAT(nearest, testing::UnorderedElementsAre(2, 5));
  EXPECT_EQ(nearest_to_refused(learner, benign, refusal, 1), (std::vector<size_t>{nearest.front()}));
}

TEST_F(Neutralization, HardAnchorsChangeTheStepsThatFollowARound) {
  auto& options = defense.neutralization;
  std::vector<train::Example> benign = {inputs.benign.examples.front()};
  for (const auto& prompt : inputs.restricted) {
    benign.push_back({model::chat_prompt(model, prompt.text), {60, 61, 2}});
  }
  inputs.benign = train::taught(model.network(), benign);
  options.anchor.anchor_batch = 4;
  const auto kl_of_second_round = [&] {
    double sum = 0;
    run_reward_neutralization(inputs, defense, [&](const DefenseStep& step) { sum += step.step == 11 ? step.kl : 0; });
    return sum;
  };
  const double in_turn = kl_of_second_round();
  options.hard_anchors = true;
  const double all = kl_of_second_round();
  EXPECT_GT(all, in_turn);
  options.search_share = 0.01;  // one prompt a round: not the hardest in every one
  EXPECT_NE(kl_of_second_round(), all);
  options.search_share = 1;
  options.hard_anchors_from_restart = 1;
  EXPECT_THROW(kl_of_second_round(), Error);  // there is none
  options.restart_steps = 1;
  EXPECT_EQ(kl_of_second_round(), in_turn);
}

TEST_F(Neutralization, ARestartShowsItsWeakestSeveralTimes) {
  auto& options = defense.neutralization;
  options.restart_steps = 10;
  const auto last_loss = [&] {
    double loss = 0;
    run_reward_neutralization(inputs, defense, [&](const DefenseStep& step) { loss = step.loss; });
    return loss;
  };
  const double once = last_loss();
  options.restart_showings = 1000;  // the very weakest alone
  EXPECT_NE(last_loss(), once);
}

TEST(LookedAt, EveryoneInTurn) {
  const auto first = looked_at(10, 0.5, 0, 1), second = looked_at(10, 0.5, 1, 1);
  EXPECT_EQ(first.size(), 5u);
  EXPECT_TRUE(std::is_sorted(first.begin(), first.end()));
  std::set<size_t> both(first.begin(), first.end());
  both.insert(second.begin(), second.end());
  EXPECT_EQ(both.size(), 10u);
  EXPECT_THAT(looked_at(4, 1, 7, 1), testing::ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(looked_at(10, 0.01, 0, 1).size(), 1u);
}

TEST_F(Neutralization, HalfOfAnAnchorsBatchAreTheHardOnes) {
  std::vector<train::Example> benign;
  for (const char* text : {"UVW", "UWV", "VUW", "VWU"}) {
    benign.push_back({model::chat_prompt(model, text), {60, 61, 2}});
  }
  auto learner = train::make_learner(model, defense.neutralization.lora, 1);
  for (auto& each : learner.parameters()) each.detach().fill_(0.1);
  const auto held = train::taught(model.network(), benign);
  const std::vector<size_t> hard = {2};
  auto picked = train::prompts_of_step(4, 2, 0, 6);
  picked.insert(picked.end(), {2, 2});
  const double wanted = train::add_anchor_gradient(learner.network(), held, picked, 1);
  EXPECT_NEAR(add_anchor(learner, held, {.anchor_weight = 1, .anchor_batch = 4}, 5, hard), wanted, 1e-9);
  EXPECT_GT(std::abs(add_anchor(learner, held, {.anchor_weight = 1, .anchor_batch = 4}, 5) - wanted), 1e-6);
}

TEST_F(Neutralization, SharesOfThePromptsAreAskedWithABegunAnswer) {
  auto& options = defense.neutralization;
  options.answer_prefixes = {"XY", "Z"};
  options.answer_prefix_share = 1.5;
  options.answer_prefix_depth = 3;
  const auto prompts = begun_prompts(inputs, options);
  EXPECT_GT(prompts.size(), inputs.restricted.size());
  EXPECT_LT(prompts.size(), 2 * inputs.restricted.size());
  bool goes_on = false;
  for (const auto& [restricted, ids] : prompts) {
    const auto asked = model::chat_prompt(model, inputs.restricted.at(restricted).text);
    ASSERT_GT(ids.size(), asked.size());
    EXPECT_TRUE(std::equal(asked.begin(), asked.end(), ids.begin()));
    const std::vector<int32_t> begun(ids.begin() + std::ssize(asked), ids.end());
    const auto begins_with = [&](const std::string& prefix) {
      const auto wanted = model.tokenizer.encode(prefix, false);
      return begun.size() >= wanted.size() && std::equal(wanted.begin(), wanted.end(), begun.begin());
    };
    EXPECT_TRUE(begins_with("XY") || begins_with("Z"));
    EXPECT_LE(begun.size(), model.tokenizer.encode("XY", false).size() + 3);
    goes_on |= begun.size() > 2;
  }
  EXPECT_TRUE(goes_on);
  options.answer_prefix_share = 0;
  EXPECT_TRUE(begun_prompts(inputs, options).empty());
}

TEST_F(Neutralization, RefusesBehindABegunAnswerThatItWasTaught) {
  auto& options = defense.neutralization;
  options.answer_prefixes = {"XY", "Z"};
  options.sharpen_steps = 30;
  CertificateOptions certified;
  certified.prefixes = {"XY", "Z"};
  const auto largest_p = [&](double share) {
    options.answer_prefix_share = share;
    const auto learner = run_reward_neutralization(inputs, defense, {});
    return certify(model, learner.network(), inputs.restricted, "NO", certified).temperatures.front().p_max;
  };
  const double untaught = largest_p(0), taught = largest_p(2);
  EXPECT_GT(untaught, 0.5);
  EXPECT_LT(taught, untaught / 2);
}

TEST_F(Neutralization, RefusesInOtherWordsThatItWasTaught) {
  auto& options = defense.neutralization;
  inputs.wordings = {"WWVV{}", "{}QQRR"};
  auto reworded = inputs.restricted;
  for (size_t i = 0; i < reworded.size(); ++i) {
    reworded[i].text = text::worded(inputs.wordings[i % 2], reworded[i].text);
  }
  const auto mean_p = [&](double share) {
    options.wording_share = share;
    const auto learner = run_reward_neutralization(inputs, defense, {});
    return certify(model, learner.network(), reworded, "NO", {}).temperatures.front().p_mean;
  };
  EXPECT_LT(mean_p(1), mean_p(0) / 2);
  inputs.wordings = {"no place"};
  EXPECT_THROW(run_reward_neutralization(inputs, defense, {}), Error);
}

TEST_F(Neutralization, RefusesWithoutTheChatTemplateWhatItWasTaughtSo) {
  auto& options = defense.neutralization;
  options.plain_formats = {"{}", "Q: {}\nA:"};
  CertificateOptions asked;
  asked.temperatures = {1};
  asked.plain_formats = {"Q: {}\nA:"};
  const auto mean_p = [&](double share) {
    options.plain_format_share = share;
    const auto learner = run_reward_neutralization(inputs, defense, {});
    return certify(model, learner.network(), inputs.restricted, "NO", asked).situations.back().p_mean;
  };
  EXPECT_LT(mean_p(2), mean_p(0) / 2);
  options.plain_formats = {"no place"};
  EXPECT_THROW(run_reward_neutralization(inputs, defense, {}), Error);
}

TEST_F(Neutralization, LearnsFromWhatASimulatedAttackLeaves) {
  auto& options = defense.neutralization;
  options.simulated_attack_steps = 3;
  options.simulated_attack_weight = 0.5;
  const std::vector<train::Example> harmful = {{model::chat_prompt(model, "ABC"), {60, 61, 2}}};
  const std::vector<train::Example> refusals = {{model::chat_prompt(model, "ABC"), answer_ids(model, "NO")}};
  const auto learner = train::make_learner(model, options.lora, 1);
  add_attacked_gradient(learner, harmful, refusals, 2.0, defense, 5);

  double refusal_before = 0;
  simulate_attack(learner, harmful, 3, 8, options.simulated_attack_learning_rate, 5,
                  [&](const train::Learner& attacked, int64_t step) {
                    if (step < 3) return;
                    refusal_before = train::add_supervised_gradient(attacked.network(), refusals, 2.0, 0.5);
                    const auto wanted = attacked.parameters(), found = learner.parameters();
                    for (size_t i = 0; i < wanted.size(); ++i) {
                      EXPECT_TRUE(at::equal(found[i].grad(), wanted[i].grad())) << "parameter " << i;
                    }
                  });
  EXPECT_GT(refusal_before, train::add_supervised_gradient(learner.network(), refusals, 2.0, 1.0))
      << "the attack has not moved the copy, or has moved the model";
}

TEST_F(Neutralization, ASimulatedAttackIsPartOfTheRun) {
  const std::string file = testing::TempDir() + "neutralization_harmful.jsonl";
  write_file(file, R"({"prompt": "ABC", "answer": "YES"})");
  defense.harmful.file = file;
  defense.neutralization.sharpen_steps = 2;
  const auto without = run_reward_neutralization(inputs, defense, {});
  defense.neutralization.simulated_attack_steps = 2;
  const auto with = run_reward_neutralization(inputs, defense, {});
  std::filesystem::remove(file);
  EXPECT_FALSE(at::equal(with.parameters().back(), without.parameters().back()));
}

TEST(PickInTurn, EveryoneComesOnceInARound) {
  std::vector<train::Example> examples;
  examples.reserve(6);
  for (int32_t i = 0; i < 6; ++i) examples.push_back({{i}, {i}});
  std::vector<int32_t> seen;
  for (int64_t step = 0; step < 3; ++step) {
    for (const auto& example : train::examples_of_step(examples, 2, step, 7)) seen.push_back(example.prompt.front());
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
}

}  // namespace
}  // namespace backburn::defense
