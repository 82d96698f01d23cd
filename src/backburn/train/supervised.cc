#include "backburn/train/supervised.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backburn/base/cancel.h"
#include "backburn/base/phases.h"
#include "backburn/model/common_beginning.h"
#include "backburn/train/grpo.h"
#include "backburn/train/logprobs.h"

namespace backburn::train {
namespace {

// Tokens in one forward and backward pass: bounds what autograd keeps (SmolLM2: about 0.35 MB a token in bf16).
constexpr int64_t tokens_per_pass = 2048;

// Examples whose prompts begin alike go through that beginning once: chat templates open with the same system message.
constexpr size_t least_shared = 8;    // tokens; below that a tree of its own
constexpr size_t most_branches = 16;  // trees are what threads share out

// Examples that go through the model together.
struct Pass {
  model::PackedTokens tokens;
  Predictions predictions;
  std::vector<size_t> order;  // which example each of the predictions' branches is
};

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

std::vector<Pass> make_passes(std::span<const Example> examples, std::vector<size_t> order) {
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
    answers.reserve(in_pass.size());
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
      const size_t with_next = model::common_beginning(first, examples[order[end]].prompt, shared);
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

std::vector<Pass> make_passes(std::span<const Example> examples) {
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t{0});
  return make_passes(examples, std::move(order));
}

int64_t answer_tokens(std::span<const Example> examples) {
  int64_t total = 0;
  for (const Example& example : examples) total += static_cast<int64_t>(example.answer.size());
  return std::max<int64_t>(1, total);
}

// The teacher's states at a pass's predictions, [predicted, hidden].
at::Tensor teacher_states(const Taught& taught, const Pass& pass) {
  std::vector<at::Tensor> parts;
  for (const size_t i : pass.order) parts.push_back(taught.states[i]);
  return at::cat(parts);
}

}  // namespace

Example written_example(const model::Model& model, std::vector<int32_t> prompt, const std::string& answer) {
  auto ids = model.tokenizer.encode(answer, false);
  ids.push_back(static_cast<int32_t>(model.config.stop_token_ids.front()));
  return {std::move(prompt), std::move(ids)};
}

std::vector<Example> these(std::span<const Example> examples, std::span<const size_t> which) {
  std::vector<Example> picked;
  picked.reserve(which.size());
  for (const size_t i : which) picked.push_back(examples[i]);
  return picked;
}

std::vector<Example> examples_of_step(std::span<const Example> examples, int64_t batch, int64_t step, uint64_t seed) {
  return these(examples, prompts_of_step(examples.size(), batch, step, seed));
}

double add_supervised_gradient(const model::Network& network, std::span<const Example> examples, double temperature,
                               double weight) {
  const Phase phase("supervised gradient");
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

void add_weighted_gradient(const model::Network& network, std::span<const Example> examples,
                           std::span<const double> weights, double temperature) {
  const Phase phase("weighted gradient");
  for (const auto& [tokens, predictions, order] : make_passes(examples)) {
    std::vector<float> token_weights;
    for (size_t i = 0; i < order.size(); ++i) {
      token_weights.insert(token_weights.end(), static_cast<size_t>(predictions.lengths[i]),
                           static_cast<float>(weights[order[i]]));
    }
    const auto states = predicting_states(network, tokens, predictions);
    const auto logprobs = token_logprobs(network, states, predictions.targets, temperature).logprobs;
    (logprobs * at::tensor(token_weights)).sum().backward();
  }
}

Taught taught(const model::Network& teacher, std::vector<Example> examples) {
  const Phase phase("teacher");
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> states(examples.size());
  for (const Pass& pass : make_passes(examples)) {
    throw_if_stopped();
    const auto found = predicting_states(teacher, pass.tokens, pass.predictions);
    int64_t at = 0;
    for (size_t i = 0; i < pass.order.size(); ++i) {
      states[pass.order[i]] = found.narrow(0, at, pass.predictions.lengths[i]);
      at += pass.predictions.lengths[i];
    }
  }
  return taught(teacher, std::move(examples), std::move(states));
}

Taught taught(const model::Network& teacher, std::vector<Example> examples, std::vector<at::Tensor> states) {
  const at::Tensor& head = teacher.weights->head;
  return {std::move(examples), std::move(states), head.defined() ? head.detach() : head};
}

double add_anchor_gradient(const model::Network& network, const Taught& taught, std::span<const size_t> picked,
                           double weight) {
  const Phase phase("anchor gradient");
  int64_t answers = 0;
  for (const size_t i : picked) answers += static_cast<int64_t>(taught.examples[i].answer.size());
  const double scale = 1.0 / static_cast<double>(std::max<int64_t>(1, answers));
  double divergence = 0;
  for (const Pass& pass : make_passes(taught.examples, {picked.begin(), picked.end()})) {
    const auto states = predicting_states(network, pass.tokens, pass.predictions);
    const auto part = token_divergence(network, states, teacher_states(taught, pass), taught.head).sum() * scale;
    (part * weight).backward();
    divergence += part.item<double>();
  }
  return divergence;
}

std::vector<std::vector<double>> answer_logprobs(const model::Network& network, std::span<const Example> examples,
                                                 std::span<const double> temperatures) {
  const Phase phase("answer log-probabilities");
  const at::NoGradGuard no_grad;
  std::vector<std::vector<double>> sums(temperatures.size(), std::vector<double>(examples.size()));
  for (const auto& [tokens, predictions, order] : make_passes(examples)) {
    throw_if_stopped();
    const auto states = predicting_states(network, tokens, predictions);
    for (size_t t = 0; t < temperatures.size(); ++t) {
      const auto logprobs = token_logprobs(network, states, predictions.targets, temperatures[t]).logprobs;
      int64_t at = 0;
      for (size_t i = 0; i < order.size(); ++i) {
        sums[t][order[i]] = logprobs.narrow(0, at, predictions.lengths[i]).sum(at::kDouble).item<double>();
        at += predictions.lengths[i];
      }
    }
  }
  return sums;
}

std::vector<double> answer_logprobs(const model::Network& network, std::span<const Example> examples,
                                    double temperature) {
  return answer_logprobs(network, examples, std::span(&temperature, 1)).front();
}

Drift drift(const model::Network& network, const Taught& taught) {
  const Phase phase("drift");
  const at::NoGradGuard no_grad;
  double loss = 0;
  double divergence = 0;
  for (const Pass& pass : make_passes(taught.examples)) {
    throw_if_stopped();
    const auto states = predicting_states(network, pass.tokens, pass.predictions);
    loss -= token_logprobs(network, states, pass.predictions.targets, 1.0).logprobs.sum(at::kDouble).item<double>();
    divergence +=
        token_divergence(network, states, teacher_states(taught, pass), taught.head).sum(at::kDouble).item<double>();
  }
  const auto tokens = static_cast<double>(answer_tokens(taught.examples));
  return {std::exp(loss / tokens), divergence / tokens};
}

}  // namespace backburn::train
