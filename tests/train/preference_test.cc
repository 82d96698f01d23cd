// Against TRL's DPOTrainer: tools/make_loss_goldens.py makes the goldens.
#include "backburn/train/preference.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "backburn/base/json.h"
#include "backburn/train/learner.h"
#include "model/tiny_model.h"

namespace backburn::train {
namespace {

using testing::DoubleNear;
using testing::Pointwise;

TEST(Dpo, LossAndSlopesAreTrls) {
  const Json golden = read_json_file(TEST_DATA_DIR "/policy_loss.json")["dpo"];
  const auto ratios = [&](const std::string& which) {
    auto ratio = golden[which].get<std::vector<double>>();
    const auto reference = golden["reference_" + which].get<std::vector<double>>();
    for (size_t i = 0; i < ratio.size(); ++i) ratio[i] -= reference[i];
    return ratio;
  };
  for (const Json& wanted : golden["cases"]) {
    const auto found = dpo_loss(ratios("chosen"), ratios("rejected"), wanted["beta"]);
    EXPECT_NEAR(found.loss, wanted["loss"].get<double>(), 1e-9);
    EXPECT_NEAR(found.accuracy, wanted["accuracy"].get<double>(), 1e-6);
    EXPECT_THAT(found.slopes, Pointwise(DoubleNear(1e-9), wanted["slopes"].get<std::vector<double>>()));
  }
}

TEST(Dpo, DoesNotOverflow) {
  const auto far = dpo_loss(std::vector{-1e5}, std::vector{1e5}, 1);
  EXPECT_NEAR(far.loss, 2e5, 1e-6);
  EXPECT_NEAR(far.slopes[0], -1, 1e-12);
  EXPECT_EQ(dpo_loss(std::vector{1e5}, std::vector{-1e5}, 1).loss, 0);
}

struct Pairs : testing::Test {
  const model::Model model = model::tiny_model("tiny_llama");
  const std::vector<Example> chosen = {{{1, 20, 30}, {4, 5, 6, 2}}, {{1, 7}, {8, 2}}};
  const std::vector<Example> rejected = {{{1, 20, 30}, {9, 9, 2}}, {{1, 7}, {10, 11, 2}}};
  const Preferences pairs = preferences(model.network(), chosen, rejected);
  const std::vector<size_t> all = {0, 1};
};

// The gradient by the definition against a difference of losses along it.
TEST_F(Pairs, TheGradientIsThatOfTheLoss) {
  Learner learner = make_learner(model, {.r = 4, .lora_alpha = 8}, 1);
  learner.adapter = model::formula_adapter(model.config, 4);
  const double before = add_dpo_gradient(learner.network(), pairs, all, 0.5).loss;
  const at::NoGradGuard no_grad;
  double square = 0;
  const double step = 1e-3;
  for (const auto& parameter : learner.adapter.parameters()) square += parameter.grad().square().sum().item<double>();
  for (const auto& parameter : learner.adapter.parameters())
    parameter.sub_(parameter.grad() * (step / std::sqrt(square)));
  auto logratios = [&](const std::vector<Example>& examples, const std::vector<double>& reference) {
    auto found = answer_logprobs(learner.network(), examples);
    for (size_t i = 0; i < found.size(); ++i) found[i] -= reference[i];
    return found;
  };
  const double after =
      dpo_loss(logratios(chosen, pairs.reference_chosen), logratios(rejected, pairs.reference_rejected), 0.5).loss;
  EXPECT_NEAR((before - after) / (step * std::sqrt(square)), 1, 0.02);
}

TEST_F(Pairs, TheChosenAnswersGainOnTheRejected) {
  Learner learner = make_learner(model, {.r = 4, .lora_alpha = 8}, 1);
  PreferenceLoss loss = add_dpo_gradient(learner.network(), pairs, all, 0.5);
  EXPECT_NEAR(loss.loss, std::log(2.0), 1e-6);  // a fresh adapter is the reference
  for (int step = 0; step < 30; ++step) {
    update(learner, {.learning_rate = 0.02}, 30);
    loss = add_dpo_gradient(learner.network(), pairs, all, 0.5);
  }
  EXPECT_LT(loss.loss, 0.1);
  EXPECT_EQ(loss.accuracy, 1);
}

}  // namespace
}  // namespace backburn::train
