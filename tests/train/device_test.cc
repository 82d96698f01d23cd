// The same steps elsewhere and on the CPU: on a GPU where LibTorch finds one, and on a device that only stands for one.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <numeric>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/train/grpo.h"
#include "backburn/train/logprobs.h"
#include "backburn/train/sampled_logprobs.h"
#include "model/other_device.h"
#include "model/tiny_model.h"

namespace backburn::train {
namespace {

using Ids = std::vector<int32_t>;

const std::vector<Ids> prompts = {{1, 20, 30, 40}, {1, 7}};

std::vector<double> first_token(const Group& group) {
  std::vector<double> rewards;
  for (const auto& completion : group.completions) rewards.push_back(completion.ids.front());
  return rewards;
}

GrpoOptions small_options() {
  GrpoOptions options;
  options.prompts_per_step = 2;
  options.num_generations = 6;
  options.max_completion_length = 8;
  options.lora = {.r = 4, .lora_alpha = 8};
  return options;
}

// {device, model}
class Elsewhere : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  void SetUp() override {
    const bool gpu = std::string(std::get<0>(GetParam())) == "cuda";
    if (gpu && !at::hasCUDA()) GTEST_SKIP() << "LibTorch finds no CUDA device here";
    const at::Device device = gpu ? at::Device(at::kCUDA, 0) : other_device::device;
    for (const auto& each : named_weights(elsewhere_.config, elsewhere_.weights))
      *each.tensor = each.tensor->to(device);
    elsewhere_.weights.head = elsewhere_.weights.head.to(device);
  }
  const model::Model on_cpu_ = model::tiny_model(std::get<1>(GetParam()));
  model::Model elsewhere_ = on_cpu_;
};

TEST_P(Elsewhere, LogitsAndGradientsAreTheCpus) {
  const std::vector<model::TokenTree> trees = {{{1, 20, 30}, {{40, 41}, {50, 51, 52}}}, {{1, 7, 9, 11}, {{12}}}};
  const auto tokens = model::pack(trees);
  const auto predictions = branch_predictions(tokens);
  for (const bool gradient_checkpointing : {false, true}) {
    std::vector<at::Tensor> logits, gradients;
    for (const model::Model* model : {&on_cpu_, static_cast<const model::Model*>(&elsewhere_)}) {
      const LoraOptions lora{.r = 4, .lora_alpha = 8, .gradient_checkpointing = gradient_checkpointing};
      const Learner learner = make_learner(*model, lora, 3);
      const auto network = learner.network();
      const auto states = predicting_states(network, tokens, predictions);
      logits.push_back(model::logits(network, states).detach().cpu());
      const auto logprobs = token_logprobs(network, states, predictions.targets, 1.3).logprobs;
      const auto divergence = token_divergence(network, states, states.detach() * 0.5, network.weights->head);
      (logprobs.sum() + token_entropies(network, states, 1.3).sum() + divergence.sum()).backward();
      gradients.push_back(learner.adapter.layers[0][0].b.grad().cpu());
    }
    EXPECT_TRUE(at::allclose(logits[1], logits[0], 1e-4, 1e-4));
    EXPECT_TRUE(at::allclose(gradients[1], gradients[0], 1e-3, 1e-5));
    EXPECT_GT(gradients[0].norm().item<double>(), 0);
  }
}

TEST_P(Elsewhere, AGrpoRunTakesTheSameSteps) {
  for (const char* estimator : {"grpo", "gae"}) {
    auto options = small_options();
    options.advantage.advantage_estimator = estimator;
    options.loss.beta = 0.04;
    options.loss.entropy_coef = 0.01;
    Learner cpu = make_grpo_learner(on_cpu_, options, 3), other = make_grpo_learner(elsewhere_, options, 3);
    for (int step = 0; step < 3; ++step) {
      const auto wanted = grpo_step(cpu, prompts, options, 1, first_token);
      const auto found = grpo_step(other, prompts, options, 1, first_token);
      for (size_t group = 0; group < 2; ++group) EXPECT_EQ(found.groups[group].texts, wanted.groups[group].texts);
      EXPECT_GT(wanted.metrics.grad_norm, 0);
      EXPECT_NEAR(found.metrics.grad_norm / wanted.metrics.grad_norm, 1, 1e-3) << estimator;
      EXPECT_LT(found.metrics.sampling_logp_difference, 1e-3);
    }
  }
}

TEST_P(Elsewhere, CheckpointsAndAdaptersGoFromOneToTheOther) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "checkpoint.safetensors";
  Learner cpu = make_learner(on_cpu_, small_options().lora, 3);
  grpo_step(cpu, prompts, small_options(), 1, first_token);
  save_checkpoint(cpu, path);
  Learner other = make_learner(elsewhere_, small_options().lora, 5);
  ASSERT_TRUE(load_checkpoint(other, path));
  const Example example{prompts[0], {33, 34, 35}};
  const std::vector<generate::SamplingOptions> samplings = {{.temperature = 1.0}, {.temperature = 0.7, .top_k = 60}};
  const auto wanted = sampled_logprobs(cpu.network(), {&example, 1}, samplings);
  const auto loaded = sampled_logprobs(other.network(), {&example, 1}, samplings);
  const auto borrowed = sampled_logprobs(elsewhere_.network(&cpu.adapter), {&example, 1}, samplings);
  const auto merged_weights = merge(elsewhere_.weights, cpu.adapter);
  const model::Network merged{&elsewhere_.config, &merged_weights, nullptr};
  const auto folded = sampled_logprobs(merged, {&example, 1}, samplings);
  const auto sum = [](const AnswerLogprobs& logprobs) {
    return std::accumulate(logprobs.begin(), logprobs.end(), 0.0);
  };
  for (size_t i = 0; i < samplings.size(); ++i) {
    for (const auto* found : {&loaded, &borrowed, &folded}) EXPECT_NEAR(sum((*found)[i][0]), sum(wanted[i][0]), 1e-3);
  }
  save_checkpoint(other, path);
  Learner back = make_learner(on_cpu_, small_options().lora, 7);
  ASSERT_TRUE(load_checkpoint(back, path));
  for (size_t i = 0; i < cpu.parameters().size(); ++i) {
    EXPECT_TRUE(at::equal(back.parameters()[i], cpu.parameters()[i]));
    EXPECT_TRUE(at::equal(back.optimizer.second_moments[i], cpu.optimizer.second_moments[i]));
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Elsewhere,
                         testing::Combine(testing::Values("cuda", "stand_in"),
                                          testing::Values("tiny_llama", "tiny_qwen2", "tiny_gemma2", "tiny_gemma3")),
                         [](const auto& each) {
                           return std::string(std::get<0>(each.param)) + "_" + std::get<1>(each.param);
                         });

TEST(StandIn, IsAsStrictAsAGpu) {
  const auto there = at::ones({2, 3}).to(other_device::device);
  EXPECT_THROW(there + at::ones({2, 3}), std::exception);
  EXPECT_THROW(there.index_select(0, at::zeros({1}, at::kLong)), std::exception);
  EXPECT_EQ((there + at::ones({})).sum().item<float>(), 12);
  EXPECT_NE(static_cast<const float*>(there.const_data_ptr())[0], 1);
  EXPECT_TRUE(at::equal((there * 2).t().cpu(), at::full({3, 2}, 2.0)));
}

TEST(Device, ByNameOrInOneSentence) {
  EXPECT_TRUE(model::device_of("cpu").is_cpu());
  EXPECT_THROW(model::device_of("tpu"), Error);
  EXPECT_EQ(model::device_of("auto").is_cuda(), at::hasCUDA());
  if (at::hasCUDA()) GTEST_SKIP() << "there is a CUDA device: nothing to refuse";
  try {
    model::device_of("cuda");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("finds no CUDA device"), std::string::npos);
    EXPECT_EQ(error.exit_code(), 2);
  }
}

}  // namespace
}  // namespace backburn::train
