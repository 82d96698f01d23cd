#include "backburn/train/supervised.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "backburn/base/files.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/quantized_weights.h"
#include "backburn/train/learner.h"
#include "model/tiny_model.h"
#include "train/anchored_drift.h"

namespace backburn::train {
namespace {

using at::Tensor;
using Ids = std::vector<int32_t>;

const std::vector<Example> three_examples = {
    {{1, 20, 30}, {4, 5, 6, 2}}, {{1, 7}, {8, 2}}, {{1, 20, 30}, {9, 9, 9, 9, 9, 9, 2}}};

// ln π_T over the vocabulary at each answer token, the plain way: one sequence, all logits.
Tensor answer_rows(const model::Network& network, const Example& example, double temperature) {
  Ids ids = example.prompt;
  ids.insert(ids.end(), example.answer.begin(), example.answer.end());
  const model::TokenTree tree{ids, {}};
  const auto all = logits(network, hidden_states(network, model::pack({&tree, 1})));
  return at::log_softmax(
      all.narrow(0, static_cast<int64_t>(example.prompt.size()) - 1, static_cast<int64_t>(example.answer.size())) /
          temperature,
      -1);
}

Tensor plain_logprobs(const model::Network& network, const Example& example, double temperature = 1) {
  return answer_rows(network, example, temperature)
      .gather(1, at::tensor(example.answer, at::kLong).unsqueeze(1))
      .squeeze(1);
}

// All gradients of an adapter in one vector; cleared.
Tensor take_gradient(const model::Adapter& adapter) {
  std::vector<Tensor> list;
  for (const Tensor& parameter : adapter.parameters()) {
    list.push_back(parameter.grad().flatten().clone());
    parameter.mutable_grad().reset();
  }
  return at::cat(list);
}

double relative_gap(const Tensor& found, const Tensor& expected) {
  return ((found - expected).norm() / expected.norm()).item<double>();
}

struct Supervised : testing::Test {
  const model::Model model = model::tiny_model("tiny_qwen2");
  const model::Adapter adapter = model::formula_adapter(model.config, 4);
  const model::Network network = model.network(&adapter);
};

TEST_F(Supervised, IsTheMeanOverAllAnswerTokens) {
  for (const double temperature : {1.0, 2.0}) {
    Tensor loss = at::zeros({});
    for (const Example& example : three_examples)
      loss = loss - plain_logprobs(network, example, temperature).sum() / 13.0;
    (loss * 0.5).backward();
    const auto expected = take_gradient(adapter);
    EXPECT_NEAR(add_supervised_gradient(network, three_examples, temperature, 0.5), loss.item<double>(), 1e-5);
    EXPECT_LT(relative_gap(take_gradient(adapter), expected), 1e-4);
  }
}

TEST_F(Supervised, WeightedIsTheSumOfTheWeightedAnswers) {
  const std::vector<double> weights = {0.5, -2, 1.5};
  Tensor sum = at::zeros({});
  for (size_t i = 0; i < 3; ++i) sum = sum + plain_logprobs(network, three_examples[i], 1.3).sum() * weights[i];
  sum.backward();
  const auto expected = take_gradient(adapter);
  add_weighted_gradient(network, three_examples, weights, 1.3);
  EXPECT_LT(relative_gap(take_gradient(adapter), expected), 1e-4);
}

TEST_F(Supervised, AnchorIsTheDivergenceFromTheTeacher) {
  Tensor divergence = at::zeros({});
  for (const Example& example : three_examples) {
    const auto wanted = answer_rows(model.network(), example, 1), given = answer_rows(network, example, 1);
    divergence = divergence + (wanted.exp() * (wanted - given)).sum() / 13.0;
  }
  (divergence * 3.0).backward();
  const auto expected = take_gradient(adapter);
  const Taught held = taught(model.network(), three_examples);
  const std::vector<size_t> all = {0, 1, 2};
  EXPECT_NEAR(add_anchor_gradient(network, held, all, 3.0), divergence.item<double>(), 1e-6);
  EXPECT_LT(relative_gap(take_gradient(adapter), expected), 1e-3);
  const auto found = drift(network, held);
  EXPECT_NEAR(found.divergence, divergence.item<double>(), 1e-6);
  double loss = 0;
  for (const double logprob : answer_logprobs(network, three_examples)) loss -= logprob / 13.0;
  EXPECT_NEAR(found.perplexity, std::exp(loss), 1e-4);
  EXPECT_NEAR(drift(network, taught(network, three_examples)).divergence, 0, 1e-7);
}

TEST_F(Supervised, GradientsAddUpAndManyExamplesTakeManyPasses) {
  std::vector<Example> many;
  for (int i = 0; i < 100; ++i) many.insert(many.end(), three_examples.begin(), three_examples.end());
  const double once = add_supervised_gradient(network, three_examples, 1, 1);
  const auto expected = take_gradient(adapter);
  EXPECT_NEAR(add_supervised_gradient(network, many, 1, 1), once, 1e-5);
  EXPECT_NEAR(add_supervised_gradient(network, three_examples, 1, 2), once, 1e-5);
  EXPECT_LT(relative_gap(take_gradient(adapter), expected * 3), 1e-4);
}

TEST_F(Supervised, AnswerLogprobsAreSums) {
  const auto found = answer_logprobs(network, three_examples, 1.5);
  ASSERT_EQ(found.size(), 3);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(found[i], plain_logprobs(network, three_examples[i], 1.5).sum().item<double>(), 1e-4);
  }
}

TEST_F(Supervised, TrainingMakesTheAnswersLikely) {
  Learner learner = make_learner(model, {.r = 4, .lora_alpha = 8}, 1);
  double loss = 0;
  for (int step = 0; step < 60; ++step) {
    loss = add_supervised_gradient(learner.network(), three_examples, 1, 1);
    update(learner, {.learning_rate = 0.03}, 60);
  }
  EXPECT_LT(loss, 0.3);  // not below 0.107: two of them answer one prompt
  EXPECT_EQ(learner.step, 60);
}

TEST_F(Supervised, TheAnchorHoldsTheModel) {
  const auto drift_after = [&](double anchor) {
    return anchored_drift(model, {.r = 4, .lora_alpha = 8}, three_examples, 0.02, anchor);
  };
  EXPECT_LT(drift_after(1) * 4, drift_after(0));
}

// A quantised head is not in memory as a tensor: teacher and student share it.
TEST(Anchor, AQuantisedTeacherTeachesNearlyTheSame) {
  const model::Model whole = model::packed_model();
  if (!whole.weights.packed) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
  const TemporaryFolder folder;
  save_hugging_face(whole, folder.path() / "model", at::kBFloat16);
  const auto quantised = load_model((folder.path() / "model").string(), at::kBFloat16, model::BaseQuantization::q8_0);
  const std::array<size_t, 3> all = {0, 1, 2};
  const auto divergence = [&](const model::Model& model) {
    auto adapter = model::formula_adapter(model.config, 8);
    for (auto& layer : adapter.layers) {
      for (auto& pair : layer) pair.b.set_data(pair.b.detach() * 20);
    }
    return add_anchor_gradient(model.network(&adapter), taught(model.network(), three_examples), all, 1.0);
  };
  const double wanted = divergence(whole);
  EXPECT_GT(wanted, 0);
  EXPECT_NEAR(divergence(quantised), wanted, 0.2 * wanted);
}

}  // namespace
}  // namespace backburn::train
