#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "backburn/defense/anchored.h"
#include "backburn/defense/certificate.h"
#include "backburn/defense/reward_neutralization.h"
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
  const auto whole = run_reward_neutralization(inputs, defense, {});
  const auto folder = std::filesystem::temp_directory_path() / "backburn_neutralization_test";
  std::filesystem::create_directories(folder);
  inputs.checkpoint = folder / "checkpoint.safetensors";
  std::filesystem::remove(inputs.checkpoint);
  EXPECT_THROW(run_reward_neutralization(inputs, defense,
                                         [](const DefenseStep& step) {
                                           if (step.step == 23) throw std::runtime_error("stopped");
                                         }),
               std::runtime_error);
  const auto resumed = run_reward_neutralization(inputs, defense, {});
  std::filesystem::remove_all(folder);
  const auto wanted = whole.adapter.parameters(), found = resumed.adapter.parameters();
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(at::equal(found[i], wanted[i])) << "parameter " << i;
}

TEST(PickInTurn, EveryoneComesOnceInARound) {
  std::vector<train::Example> examples;
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
