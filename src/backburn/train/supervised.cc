#include "backburn/train/supervised.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <functional>

#include "backburn/train/logprobs.h"

namespace backburn::train {
namespace {

// Tokens in one forward and backward pass: bounds what autograd keeps (SmolLM2: about 0.35 MB a token in bf16).
constexpr int64_t tokens_per_pass = 2048;

using Pass = std::function<void(const model::PackedTokens& tokens, const Predictions& predictions)>;

void for_each_pass(std::span<const Example> examples, const Pass& pass) {
  std::vector<model::TokenTree> trees;
  int64_t size = 0;
  auto flush = [&] {
    if (trees.empty()) return;
    const auto tokens = model::pack(trees);
    pass(tokens, branch_predictions(tokens));
    trees.clear();
    size = 0;
  };
  for (const Example& example : examples) {
    model::TokenTree tree{example.prompt, {example.answer}};
    if (size + tree.size() > tokens_per_pass) flush();
    size += tree.size();
    trees.push_back(std::move(tree));
  }
  flush();
}

int64_t answer_tokens(std::span<const Example> examples) {
  int64_t total = 0;
  for (const Example& example : examples) total += static_cast<int64_t>(example.answer.size());
  return std::max<int64_t>(1, total);
}

at::Tensor teacher_states(const model::Network& teacher, const model::PackedTokens& tokens,
                          const Predictions& predictions) {
  const at::NoGradGuard no_grad;
  return predicting_states(teacher, tokens, predictions);
}

}  // namespace

double add_supervised_gradient(const model::Network& network, std::span<const Example> examples, double temperature,
                               double weight) {
  const double scale = 1.0 / static_cast<double>(answer_tokens(examples));
  double loss = 0;
  for_each_pass(examples, [&](const auto& tokens, const auto& predictions) {
    const auto states = predicting_states(network, tokens, predictions);
    const auto logprobs = token_logprobs(states, network.weights->head, predictions.targets, temperature).logprobs;
    const auto part = logprobs.sum() * -scale;
    (part * weight).backward();
    loss += part.template item<double>();
  });
  return loss;
}

double add_anchor_gradient(const model::Network& network, const model::Network& teacher,
                           std::span<const Example> examples, double weight) {
  const double scale = 1.0 / static_cast<double>(answer_tokens(examples));
  double divergence = 0;
  for_each_pass(examples, [&](const auto& tokens, const auto& predictions) {
    const auto wanted = teacher_states(teacher, tokens, predictions);
    const auto states = predicting_states(network, tokens, predictions);
    const auto part = token_divergence(states, wanted, network.weights->head).sum() * scale;
    (part * weight).backward();
    divergence += part.template item<double>();
  });
  return divergence;
}

std::vector<double> answer_logprobs(const model::Network& network, std::span<const Example> examples,
                                    double temperature) {
  const at::NoGradGuard no_grad;
  std::vector<double> sums;
  for_each_pass(examples, [&](const auto& tokens, const auto& predictions) {
    const auto states = predicting_states(network, tokens, predictions);
    const auto logprobs = token_logprobs(states, network.weights->head, predictions.targets, temperature).logprobs;
    int64_t at = 0;
    for (int64_t length : predictions.lengths) {
      sums.push_back(logprobs.narrow(0, at, length).sum().template item<double>());
      at += length;
    }
  });
  return sums;
}

double mean_divergence(const model::Network& network, const model::Network& teacher, std::span<const Example> examples) {
  const at::NoGradGuard no_grad;
  double sum = 0;
  for_each_pass(examples, [&](const auto& tokens, const auto& predictions) {
    const auto wanted = predicting_states(teacher, tokens, predictions);
    const auto states = predicting_states(network, tokens, predictions);
    sum += token_divergence(states, wanted, network.weights->head).sum().template item<double>();
  });
  return sum / static_cast<double>(answer_tokens(examples));
}

}  // namespace backburn::train
