#include "backburn/train/logprobs.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace backburn::train {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Logits held at a time: small enough to be reused by malloc instead of being mapped, and page-faulted, anew each time.
constexpr int64_t chunk_bytes = 16 << 20;

template <typename Body>
void for_each_chunk(int64_t rows, const Tensor& head, const Body& body) {
  const int64_t chunk = std::max<int64_t>(16, chunk_bytes / (4 * head.size(0)));
  for (int64_t begin = 0; begin < rows; begin += chunk) body(begin, std::min(chunk, rows - begin));
}

Tensor chunk_logits(const Tensor& hidden, const Tensor& head, int64_t begin, int64_t size, double temperature) {
  auto logits = at::linear(hidden.narrow(0, begin, size), head).to(at::kFloat);
  return temperature == 1.0 ? logits : logits.div_(temperature);
}

class SelectedLogprob : public torch::autograd::Function<SelectedLogprob> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& hidden, const Tensor& head,
                               const Tensor& targets, double temperature) {
    const int64_t rows = hidden.size(0);
    auto logprobs = at::empty({rows}, at::kFloat);
    auto entropies = at::empty({rows}, at::kFloat);
    auto normalizers = at::empty({rows}, at::kFloat);
    for_each_chunk(rows, head, [&](int64_t begin, int64_t size) {
      const auto logits = chunk_logits(hidden, head, begin, size, temperature);
      const auto normalizer = logits.logsumexp(-1);
      const auto chosen = logits.gather(1, targets.narrow(0, begin, size).unsqueeze(1)).squeeze(1);
      // H = ln Z − Σ p·logit
      const auto mean_logit = (at::exp(logits - normalizer.unsqueeze(1)).mul_(logits)).sum(-1);
      logprobs.narrow(0, begin, size).copy_(chosen - normalizer);
      entropies.narrow(0, begin, size).copy_(normalizer - mean_logit);
      normalizers.narrow(0, begin, size).copy_(normalizer);
    });
    context->save_for_backward({hidden, head, targets, normalizers});
    context->saved_data["temperature"] = temperature;
    context->mark_non_differentiable({entropies});
    return {logprobs, entropies};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &hidden = saved[0], &head = saved[1], &targets = saved[2], &normalizers = saved[3];
    const double temperature = context->saved_data["temperature"].toDouble();
    auto hidden_gradient = at::empty_like(hidden);
    for_each_chunk(hidden.size(0), head, [&](int64_t begin, int64_t size) {
      // d ln π(target) / d logit = (1[target] − p) / T
      auto slope = chunk_logits(hidden, head, begin, size, temperature);
      slope.sub_(normalizers.narrow(0, begin, size).unsqueeze(1)).exp_().neg_();
      const auto index = targets.narrow(0, begin, size).unsqueeze(1);
      slope.scatter_add_(1, index, at::ones({size, 1}, at::kFloat));
      slope.mul_(gradients[0].narrow(0, begin, size).unsqueeze(1) / temperature);
      hidden_gradient.narrow(0, begin, size).copy_(at::mm(slope.to(head.scalar_type()), head));
    });
    return {hidden_gradient, Tensor(), Tensor(), Tensor()};
  }
};

class Divergence : public torch::autograd::Function<Divergence> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& student, const Tensor& teacher, const Tensor& head) {
    auto divergence = at::empty({student.size(0)}, at::kFloat);
    for_each_chunk(student.size(0), head, [&](int64_t begin, int64_t size) {
      const auto wanted = at::log_softmax(chunk_logits(teacher, head, begin, size, 1.0), -1);
      const auto given = at::log_softmax(chunk_logits(student, head, begin, size, 1.0), -1);
      divergence.narrow(0, begin, size).copy_((wanted.exp() * (wanted - given)).sum(-1));
    });
    context->save_for_backward({student, teacher, head});
    return divergence;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &student = saved[0], &teacher = saved[1], &head = saved[2];
    auto student_gradient = at::empty_like(student);
    for_each_chunk(student.size(0), head, [&](int64_t begin, int64_t size) {
      auto slope = at::softmax(chunk_logits(student, head, begin, size, 1.0), -1);
      slope.sub_(at::softmax(chunk_logits(teacher, head, begin, size, 1.0), -1));
      slope.mul_(gradients[0].narrow(0, begin, size).unsqueeze(1));
      student_gradient.narrow(0, begin, size).copy_(at::mm(slope.to(head.scalar_type()), head));
    });
    return {student_gradient, Tensor(), Tensor()};
  }
};

}  // namespace

Predictions branch_predictions(const model::PackedTokens& tokens) {
  std::vector<int64_t> rows;
  Predictions predictions;
  for (const auto& span : tokens.spans) {
    int64_t at = span.begin + span.prefix;
    for (int64_t length : span.branches) {
      for (int64_t i = 0; i < length; ++i) rows.push_back(i == 0 ? span.begin + span.prefix - 1 : at + i - 1);
      predictions.lengths.push_back(length);
      at += length;
    }
  }
  predictions.rows = at::tensor(rows, at::kLong);
  // The first token of a branch follows the prefix in the tree, not in the packed order.
  std::vector<int64_t> targets;
  const int64_t* ids = tokens.ids.data_ptr<int64_t>();
  for (const auto& span : tokens.spans) targets.insert(targets.end(), ids + span.begin + span.prefix, ids + span.begin + span.size());
  predictions.targets = at::tensor(targets, at::kLong);
  return predictions;
}

TokenLogprobs token_logprobs(const Tensor& hidden, const Tensor& head, const Tensor& targets, double temperature) {
  const auto result = SelectedLogprob::apply(hidden, head, targets, temperature);
  return {result[0], result[1]};
}

Tensor token_divergence(const Tensor& student, const Tensor& teacher, const Tensor& head) {
  return Divergence::apply(student, teacher, head);
}

Tensor predicting_states(const model::Network& network, const model::PackedTokens& tokens,
                         const Predictions& predictions) {
  return hidden_states(network, tokens).index_select(0, predictions.rows);
}

}  // namespace backburn::train
