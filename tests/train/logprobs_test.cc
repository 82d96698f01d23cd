#include "backburn/train/logprobs.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/generate/rollout.h"
#include "backburn/kernels/cpu.h"
#include "backburn/model/packed.h"
#include "model/tiny_model.h"

namespace backburn::train {
namespace {

using at::Tensor;
using testing::ElementsAre;

std::vector<int64_t> list(const Tensor& tensor) {
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

double relative_gap(const Tensor& found, const Tensor& expected) {
  return ((found.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

// Nothing but a head.
model::Weights head_only(const Tensor& head) {
  model::Weights weights;
  weights.embedding = weights.head = head;
  return weights;
}

// 600 rows: two whole chunks and a part of one.
// By soft cap of the logits; 0: none.
struct Chunked : testing::TestWithParam<double> {
  Chunked() {
    at::manual_seed(4);
    config.logit_softcap = GetParam();
  }
  Tensor logits(const Tensor& states) const {
    const auto plain = at::linear(states, head.to(states.scalar_type()));
    return GetParam() == 0 ? plain : at::tanh(plain / GetParam()) * GetParam();
  }
  model::ModelConfig config;
  const Tensor head = at::randn({50, 16});
  const model::Weights weights_of_head = head_only(head);
  const model::Network network{&config, &weights_of_head, nullptr};
  const Tensor hidden = at::randn({600, 16});
  const Tensor teacher = at::randn({600, 16});
  const Tensor targets = at::randint(50, {600}, at::kLong);
  const Tensor weights = at::randn({600});  // of the rows in the loss, so that none hides behind another
};

TEST_P(Chunked, LogprobsAreThoseOfPlainAutograd) {
  for (const double temperature : {1.0, 0.7, 2.0}) {
    const auto plain = hidden.to(at::kDouble).requires_grad_(true);
    const auto all = at::log_softmax(logits(plain) / temperature, -1);
    const auto expected = all.gather(1, targets.unsqueeze(1)).squeeze(1);
    (expected * weights).sum().backward();

    const auto ours = hidden.clone().requires_grad_(true);
    const auto found = token_logprobs(network, ours, targets, temperature);
    (found.logprobs * weights).sum().backward();
    EXPECT_LT(relative_gap(found.logprobs, expected), 1e-6);
    EXPECT_LT(relative_gap(found.entropies, -(all.exp() * all).sum(-1)), 1e-5);
    EXPECT_LT(relative_gap(ours.grad(), plain.grad()), 1e-6);
    EXPECT_FALSE(found.entropies.requires_grad());
  }
}

TEST_P(Chunked, EntropyIsThatOfPlainAutograd) {
  for (const double temperature : {1.0, 0.7, 2.0}) {
    const auto plain = hidden.to(at::kDouble).requires_grad_(true);
    const auto all = at::log_softmax(logits(plain) / temperature, -1);
    const auto expected = -(all.exp() * all).sum(-1);
    (expected * weights).sum().backward();

    const auto ours = hidden.clone().requires_grad_(true);
    const auto found = token_entropies(network, ours, temperature);
    (found * weights).sum().backward();
    EXPECT_LT(relative_gap(found, expected), 1e-5);
    EXPECT_LT(relative_gap(ours.grad(), plain.grad()), 1e-5);
  }
}

TEST_P(Chunked, DivergenceIsThatOfPlainAutograd) {
  const auto plain = hidden.to(at::kDouble).requires_grad_(true);
  const auto wanted = at::log_softmax(logits(teacher).to(at::kDouble), -1);
  const auto given = at::log_softmax(logits(plain), -1);
  const auto expected = (wanted.exp() * (wanted - given)).sum(-1);
  (expected * weights).sum().backward();

  const auto ours = hidden.clone().requires_grad_(true);
  const auto found = token_divergence(network, ours, teacher, head);
  (found * weights).sum().backward();
  EXPECT_LT(relative_gap(found, expected), 1e-5);
  EXPECT_LT(relative_gap(ours.grad(), plain.grad()), 1e-5);
  EXPECT_LT(token_divergence(network, teacher, teacher, head).abs().max().item<double>(), 1e-6);
}

// Full fine-tuning: each loss's gradient in the head, which for the divergence is the student's alone.
TEST_P(Chunked, TheHeadsGradientIsThatOfPlainAutograd) {
  const auto plain = head.to(at::kDouble).requires_grad_(true);
  const auto capped = [&](const Tensor& states, const Tensor& with) {
    const auto all = at::linear(states.to(at::kDouble), with.to(at::kDouble));
    return at::log_softmax(GetParam() == 0 ? all : at::tanh(all / GetParam()) * GetParam(), -1);
  };
  const auto teacher_head = at::randn({50, 16});
  const auto all = capped(hidden, plain), wanted = capped(teacher, teacher_head);
  const auto trained = head_only(head.clone().requires_grad_(true));
  const model::Network learner{&config, &trained, nullptr};
  const auto divergence = (wanted.exp() * (wanted - all)).sum(-1);
  const std::pair<Tensor, Tensor> cases[] = {
      {all.gather(1, targets.unsqueeze(1)).squeeze(1), token_logprobs(learner, hidden, targets, 1.0).logprobs},
      {-(all.exp() * all).sum(-1), token_entropies(learner, hidden, 1.0)},
      {divergence, token_divergence(learner, hidden, teacher, teacher_head)}};
  for (const auto& [expected, found] : cases) {
    EXPECT_LT(relative_gap(found, expected), 1e-5);
    (expected * weights).sum().backward({}, /*keep_graph=*/true);
    (found * weights).sum().backward();
    EXPECT_LT(relative_gap(trained.head.grad(), plain.grad()), 1e-5);
    plain.mutable_grad().reset();
    trained.head.mutable_grad().reset();
  }
}

TEST_P(Chunked, GradientsInBf16AreNear) {
  const auto plain = hidden.to(at::kBFloat16).to(at::kDouble).requires_grad_(true);
  const auto narrow_head = head.to(at::kBFloat16);
  const auto all = at::log_softmax(logits(plain), -1);
  (all.gather(1, targets.unsqueeze(1)).squeeze(1) * weights).sum().backward();
  const auto ours = hidden.to(at::kBFloat16).requires_grad_(true);
  const auto narrow_weights = head_only(narrow_head);
  const auto found = token_logprobs({&config, &narrow_weights, nullptr}, ours, targets, 1.0).logprobs;
  EXPECT_EQ(found.scalar_type(), at::kFloat);
  (found * weights).sum().backward();
  EXPECT_LT(relative_gap(ours.grad(), plain.grad()), 0.01);
}

INSTANTIATE_TEST_SUITE_P(SoftCap, Chunked, testing::Values(0.0, 3.0));

// What the kernels find for a packed head against what LibTorch's operations find for the same.
struct PackedHead : testing::Test {
  PackedHead() {
    at::manual_seed(7);
    packed = head_only((at::randn({1000, 64}) / 4).to(at::kBFloat16));
    plain = head_only(packed.head.to(at::kFloat));
    config.vocab_size = 1000;
    config.hidden_size = 64;
    config.intermediate_size = config.head_dim = 32;
    packed.packed = model::PackedWeights::make(config, packed);
  }
  void SetUp() override {
    if (!kernels::available()) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
    ASSERT_TRUE(packed.packed != nullptr);
  }
  // `compute`'s values for these hidden states, and their gradient, with the kernels and in f32.
  template <typename Compute>
  void compare(const Tensor& states, double tolerance, const Compute& compute) {
    Tensor values[2], gradients[2];
    for (const bool with_kernels : {false, true}) {
      const auto ours = states.to(with_kernels ? at::kBFloat16 : at::kFloat).clone().requires_grad_(true);
      values[with_kernels] = compute(model::Network{&config, with_kernels ? &packed : &plain, nullptr}, ours);
      (values[with_kernels] * weights.narrow(0, 0, states.size(0))).sum().backward();
      gradients[with_kernels] = ours.grad().to(at::kDouble);
    }
    EXPECT_EQ(values[1].scalar_type(), at::kFloat);
    EXPECT_LT(relative_gap(values[1], values[0]), tolerance);
    EXPECT_LT(relative_gap(gradients[1], gradients[0]), 0.01);
  }
  model::ModelConfig config;
  model::Weights plain, packed;
  const Tensor hidden = at::randn({333, 64}).to(at::kBFloat16);
  const Tensor teacher = at::randn({333, 64}).to(at::kBFloat16);
  const Tensor targets = at::randint(1000, {333}, at::kLong);
  const Tensor weights = at::randn({333});
};

TEST_F(PackedHead, LogprobsAgreeWithThoseOfThePlainHead) {
  for (const double temperature : {1.0, 0.7, 2.0}) {
    compare(hidden, 1e-5, [&](const model::Network& network, const Tensor& states) {
      return token_logprobs(network, states, targets, temperature).logprobs;
    });
  }
  const at::NoGradGuard no_grad;
  const auto expected = token_logprobs({&config, &plain, nullptr}, hidden.to(at::kFloat), targets, 1.5).entropies;
  const auto found = token_logprobs({&config, &packed, nullptr}, hidden, targets, 1.5).entropies;
  EXPECT_LT(relative_gap(found, expected), 1e-4);
}

TEST_F(PackedHead, DivergenceAgreesWithThatOfThePlainHead) {
  compare(hidden, 1e-5, [&](const model::Network& network, const Tensor& states) {
    return token_divergence(network, states, teacher.to(states.scalar_type()), network.weights->head);
  });
}

TEST_F(PackedHead, StridedRowsAreTakenAsTheyAre) {
  compare(hidden.narrow(0, 0, 1), 1e-5, [&](const model::Network& network, const Tensor& states) {
    const auto wide = at::cat({states, states}, 1).narrow(1, 64, 64);
    return token_logprobs(network, wide, targets.narrow(0, 0, 1), 1.0).logprobs;
  });
}

TEST(Predictions, ABranchIsPredictedFromTheEndOfItsPrefix) {
  const std::vector<model::TokenTree> trees = {{{5, 6, 7}, {{8, 9}, {10}}}, {{20, 21}, {}}, {{30}, {{31, 32, 33}}}};
  const Predictions found = branch_predictions(model::pack(trees));
  EXPECT_THAT(list(found.rows), ElementsAre(2, 3, 2, 8, 9, 10));
  EXPECT_THAT(list(found.targets), ElementsAre(8, 9, 10, 31, 32, 33));
  EXPECT_THAT(found.lengths, ElementsAre(2, 1, 3));
}

TEST(Predictions, TheTrainerSeesTheLogprobsThatTheSamplerSaw) {
  const at::NoGradGuard no_grad;
  const auto model = model::tiny_model("tiny_llama");
  const auto adapter = model::formula_adapter(model.config, 4);
  const auto network = model.network(&adapter);
  const std::vector<generate::RolloutRequest> requests = {{{1, 20, 30}, 6, 1}, {{1, 7}, 4, 2}};
  const generate::RolloutOptions options{
      .sampling = {.temperature = 1.3, .top_p = 0.95}, .max_completion_length = 16, .max_rows = 5};
  const auto groups = generate::rollout(network, requests, options);
  std::vector<model::TokenTree> trees;
  std::vector<float> sampled, entropies;
  for (size_t i = 0; i < groups.size(); ++i) {
    trees.push_back({requests[i].prompt, {}});
    for (const auto& completion : groups[i]) {
      trees.back().branches.push_back(completion.ids);
      sampled.insert(sampled.end(), completion.logprobs.begin(), completion.logprobs.end());
      entropies.insert(entropies.end(), completion.entropies.begin(), completion.entropies.end());
    }
  }
  const auto tokens = model::pack(trees);
  const auto predictions = branch_predictions(tokens);
  const auto states = predicting_states(network, tokens, predictions);
  const auto trained = token_logprobs(network, states, predictions.targets, 1.3);
  EXPECT_LT((trained.logprobs - at::tensor(sampled)).abs().max().item<double>(), 1e-5);
  EXPECT_LT((trained.entropies - at::tensor(entropies)).abs().max().item<double>(), 1e-5);
}

}  // namespace
}  // namespace backburn::train
