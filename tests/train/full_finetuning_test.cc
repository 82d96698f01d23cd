#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/train/grpo.h"
#include "backburn/train/supervised.h"
#include "base/error_of.h"
#include "model/tiny_model.h"
#include "train/anchored_drift.h"

namespace backburn::train {
namespace {

using at::Tensor;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

const std::vector<Ids> prompts = {{1, 20, 30, 40}, {1, 7}, {1, 33, 34, 35, 36}};
const std::vector<Example> examples = {{{1, 20, 30, 40}, {50, 51, 2}}, {{1, 7}, {52, 53, 54, 2}}};

GrpoOptions small_options(const LoraOptions& lora) {
  GrpoOptions options;
  options.prompts_per_step = 2;
  options.num_generations = 6;
  options.max_completion_length = 8;
  options.optimizer.learning_rate = 0.01;
  options.lora = lora;
  return options;
}

std::vector<double> count_q(const Group& group) {
  std::vector<double> rewards;
  for (const auto& text : group.texts)
    rewards.push_back(static_cast<double>(std::count(text.begin(), text.end(), 'Q')));
  return rewards;
}

Tensor all_parameters(const Learner& learner) {
  std::vector<Tensor> list;
  for (const Tensor& parameter : learner.parameters()) list.push_back(parameter.detach().flatten());
  return at::cat(list);
}

// What is trained in place of a plain adapter.
class Trained : public testing::TestWithParam<const char*> {
 protected:
  static LoraOptions lora() {
    LoraOptions options{.r = 4, .lora_alpha = 8};
    const std::string kind = GetParam();
    options.use_peft = kind != "full";
    options.use_dora = kind == "dora";
    options.use_rslora = kind == "rslora";
    if (kind == "rslora") options.target_modules = {"q_proj", "down_proj"};
    return options;
  }
  const model::Model model_ = model::tiny_model("tiny_llama");
};

TEST_P(Trained, LearnsWhatIsRewarded) {
  const auto options = small_options(lora());
  auto learner = make_grpo_learner(model_, options, 3);
  double first = 0, last = 0;
  for (int step = 0; step < 40; ++step) {
    const auto metrics = grpo_step(learner, prompts, options, 1, count_q).metrics;
    (step < 5 ? first : last) += step < 5 || step >= 35 ? metrics.reward / 5 : 0;
    EXPECT_LT(metrics.sampling_logp_difference, 1e-3);  // what samples is what learns
  }
  EXPECT_LT(first, 1.5);
  EXPECT_GT(last, 4);
}

TEST_P(Trained, GoesOnFromACheckpointToTheSameBits) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "checkpoint.safetensors";
  auto options = small_options(lora());
  options.advantage.advantage_estimator = "gae";  // a value head beside it
  auto straight = make_grpo_learner(model_, options, 3);
  for (int step = 0; step < 4; ++step) {
    if (step == 2) save_checkpoint(straight, path);
    grpo_step(straight, prompts, options, 1, count_q);
  }
  auto resumed = make_grpo_learner(model_, options, 99);
  ASSERT_TRUE(load_checkpoint(resumed, path));
  for (int step = 2; step < 4; ++step) grpo_step(resumed, prompts, options, 1, count_q);
  EXPECT_TRUE(at::equal(all_parameters(resumed), all_parameters(straight)));
  auto plain = make_learner(model_, {.r = 2, .lora_alpha = 4}, 1);
  EXPECT_THROW(load_checkpoint(plain, path), Error);
}

TEST_P(Trained, TheWeightsThatItMadeSayWhatItSays) {
  auto learner = make_learner(model_, lora(), 1);
  for (int step = 0; step < 20; ++step) {
    add_supervised_gradient(learner.network(), examples, 1, 1);
    update(learner, {.learning_rate = 0.01}, 20);
  }
  const auto weights = trained_weights(learner);
  const model::Network made{&model_.config, &weights, nullptr};
  const auto before = answer_logprobs(model_.network(), examples);
  for (const auto& network : {learner.network(), learner.sampling_network(), made}) {
    const auto found = answer_logprobs(network, examples);
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i], answer_logprobs(made, examples)[i], 1e-3);
      EXPECT_GT(found[i], before[i] + 3);
    }
  }
}

TEST_P(Trained, AnAnchorHoldsIt) {
  const auto drift_after = [&](double anchor) { return anchored_drift(model_, lora(), examples, 0.01, anchor); };
  EXPECT_LT(drift_after(1) * 4, drift_after(0));
}

INSTANTIATE_TEST_SUITE_P(Kinds, Trained, testing::Values("full", "dora", "rslora"));

TEST(FullFinetuning, MovesEveryWeight) {
  const auto model = model::tiny_model("tiny_qwen2");
  auto learner = make_learner(model, {.use_peft = false}, 1);
  EXPECT_TRUE(learner.adapter.parameters().empty());
  const auto before = model::TrainedWeights(*learner.full).parameters();
  add_supervised_gradient(learner.network(), examples, 1, 1);
  update(learner, {.learning_rate = 0.01}, 1);
  const auto after = learner.parameters();
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < after.size(); ++i) EXPECT_FALSE(at::equal(after[i], before[i])) << i;
}

TEST(FullFinetuning, OnPackedWeightsSamplesByTheKernelsWhatItHasLearnt) {
  const auto model = model::packed_model();
  if (!model.weights.packed) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
  auto options = small_options({.use_peft = false});
  options.max_completion_length = 4;
  auto learner = make_grpo_learner(model, options, 1);
  EXPECT_FALSE(runs_on_kernels(learner.network()));
  EXPECT_TRUE(runs_on_kernels(learner.sampling_network()));
  for (int step = 0; step < 3; ++step) {
    const auto metrics = grpo_step(learner, prompts, options, 1, count_q).metrics;
    EXPECT_LT(metrics.sampling_logp_difference, 0.5);  // bf16, rounded in other places
  }
  EXPECT_TRUE(at::equal(learner.sampling_network().weights->layers[1].down, learner.network().weights->layers[1].down));
  EXPECT_EQ(trained_weights(learner).packed, nullptr);
  EXPECT_EQ(trained_weights(learner).embedding.scalar_type(), at::kBFloat16);
}

TEST(FullFinetuning, DoesNotGoWithAnAdaptersSettings) {
  const auto model = model::tiny_model("tiny_llama");
  const auto error = [&](const LoraOptions& lora) { return error_of([&] { make_learner(model, lora, 1); }); };
  EXPECT_THAT(error({.use_dora = true, .use_peft = false}), HasSubstr("use_peft false trains all weights"));
  EXPECT_THAT(error({.use_rslora = true, .use_peft = false}), HasSubstr("use_rslora"));
  EXPECT_THAT(error({.target_modules = {"q_proj"}, .use_peft = false}), HasSubstr("target_modules"));
  EXPECT_EQ(error({.r = 64, .use_peft = false}), "no error");  // a search sets it, whatever the attack
}

TEST(LoraKeys, AreInRecipesUnderPeftsNames) {
  GrpoOptions grpo;
  Options options;
  bind(options, "attack", grpo);
  options.load_yaml(
      "attack:\n  use_peft: false\n  target_modules: [q_proj, v_proj]\n  use_rslora: true\n  use_dora: true\n",
      "r.yaml");
  EXPECT_FALSE(grpo.lora.use_peft);
  EXPECT_EQ(grpo.lora.target_modules, (std::vector<std::string>{"q_proj", "v_proj"}));
  EXPECT_TRUE(grpo.lora.use_rslora && grpo.lora.use_dora);
}

}  // namespace
}  // namespace backburn::train
