#include "backburn/train/supervised.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "backburn/train/logprobs.h"

namespace backburn::train {
namespace {

// Tokens in one forward and backward pass: bounds what autograd keeps (SmolLM2: about 0.35 MB a token in bf16).
constexpr int64_t tokens_per_pass = 2048;

// Examples whose prompts begin alike go through that beginning once: chat templates open with the same system message.
constexpr size_t least_shared = 8;     // tokens; below that a tree of its own
constexpr size_t most_branches = 16;   // trees are what threads share out

// Examples that go through the model together.
struct Pass {
  model::PackedTokens tokens;
  Predictions predictions;
  std::vector<size_t> order;  // which example each of the predictions' branches is
};

size_t common_beginning(const std::vector<int32_t>& left, const std::vector<int32_t>& right, size_t most) {
  most = std::min({most, left.size(), right.size()});
  return static_cast<size_t>(std::mismatch(left.begin(), left.begin() + static_cast<int64_t>(most), right.begin()).first -
                             left.begin());
}

// The examples order[begin, end), under the first `shared` tokens of their prompts.
model::TokenTree tree_of(std::span<const Example> examples, std::span<const size_t> order, size_t shared) {
  const auto& first = examples[order.front()].prompt;
  const auto cut = static_cast<int64_t>(shared);
  model::TokenTree tree{{first.begin(), first.begin() + cut}, {}};
  for (const size_t i : order) {
    auto& branch = tree.branches.emplace_back(examples[i].prompt.begin() + cut, examples[i].prompt.end());
    branch.insert(branch.end(), examples[i].answer.begin(), examples[i].answer.end());
  }
  return tree;
}

std::vector<Pass> make_passes(std::span<const Example> examples) {
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t left, size_t right) { return examples[left].prompt < examples[right].prompt; });
  std::vector<Pass> passes;
  std::vector<model::TokenTree> trees;
  std::vector<size_t> in_pass;
  int64_t size = 0;
  const auto flush = [&] {
    if (trees.empty()) return;
    auto tokens = model::pack(trees);
    std::vector<int64_t> answers;
    for (const size_t i : in_pass) answers.push_back(static_cast<int64_t>(examples[i].answer.size()));
    auto predictions = branch_predictions(tokens, answers);
    passes.push_back({std::move(tokens), std::move(predictions), std::move(in_pass)});
    trees.clear();
    in_pass.clear();
    size = 0;
  };
  for (size_t begin = 0; begin < order.size();) {
    const auto& first = examples[order[begin]].prompt;
    size_t shared = first.size();
    size_t end = begin + 1;
    while (end < order.size() && end - begin < most_branches) {
      const size_t with_next = common_beginning(first, examples[order[end]].prompt, shared);
      if (with_next < least_shared) break;
      shared = with_next;
      ++end;
    }
    const auto members = std::span(order).subspan(begin, end - begin);
    auto tree = tree_of(examples, members, shared);
    if (size + tree.size() > tokens_per_pass) flush();
    size += tree.size();
    trees.push_back(std::move(tree));
    in_pass.insert(in_pass.end(), members.begin(), members.end());
    begin = end;
  }
  flush();
  return passes;
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
  for (const auto& [tokens, predictions, order] : make_passes(examples)) {
    const auto states = predicting_states(network, tokens, predictions);
    const auto logprobs = token_logprobs(network, states, predictions.targets, temperature).logprobs;
    const auto part = logprobs.sum() * -scale;
    (part * weight).backward();
    loss += part.item<double>();
  }
  return loss;
}

double add_anchor_gradient(const model::Network& network, const model::Network& teacher,
                           std::span<const Example> examples, double weight) {
  const double scale = 1.0 / static_cast<double>(answer_tokens(examples));
  double divergence = 0;
  for (const auto& [tokens, predictions, order] : make_passes(examples)) {
    const auto wanted = teacher_states(teacher, tokens, predictions);
    const auto states = predicting_states(network, tokens, predictions);
    const auto part = token_divergence(network, states, wanted).sum() * scale;
    (part * weight).backward();
    divergence += part.item<double>();
  }
  return divergence;
}

std::vector<double> answer_logprobs(const model::Network& network, std::span<const Example> examples,
                                    double temperature) {
  const at::NoGradGuard no_grad;
  std::vector<double> sums(examples.size());
  for (const auto& [tokens, predictions, order] : make_passes(examples)) {
    const auto states = predicting_states(network, tokens, predictions);
    const auto logprobs = token_logprobs(network, states, predictions.targets, temperature).logprobs;
    int64_t at = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      sums[order[i]] = logprobs.narrow(0, at, predictions.lengths[i]).sum().item<double>();
      at += predictions.lengths[i];
    }
  }
  return sums;
}

double mean_divergence(const model::Network& network, const model::Network& teacher, std::span<const Example> examples) {
  const at::NoGradGuard no_grad;
  double sum = 0;
  for (const auto& [tokens, predictions, order] : make_passes(examples)) {
    const auto wanted = predicting_states(teacher, tokens, predictions);
    const auto states = predicting_states(network, tokens, predictions);
    sum += token_divergence(network, states, wanted).sum().item<double>();
  }
  return sum / static_cast<double>(answer_tokens(examples));
}

}  // namespace backburn::train
