#include "backburn/train/policy_loss.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>

#include "backburn/base/error.h"

namespace backburn::train {
namespace {

using at::Tensor;

// Sums a per-token tensor over each answer: [answers].
Tensor sum_by_answer(const Tensor& per_token, const Tensor& answer_of_token, int64_t answers) {
  return at::zeros({answers}, per_token.scalar_type()).index_add(0, answer_of_token, per_token);
}

// Per token, what it says of KL(π ‖ π_ref).
Tensor kl_estimate(const std::string& estimator, const Tensor& logprobs, const Tensor& reference_logprobs) {
  const auto gap = reference_logprobs - logprobs;
  if (estimator == "k1") return -gap;
  if (estimator == "k2") return gap.square() / 2;
  if (estimator == "k3") return at::exp(gap) - gap - 1;
  fail_usage("kl_estimator \"{}\" is unknown (k1, k2 or k3)", estimator);
}

// Per token, what corrects for the policy that sampled. log_ratio: ln π_old − ln π_sampling, [tokens].
Tensor importance_weights(const PolicyLossOptions& options, const Tensor& log_ratio, const Tensor& answer_of_token,
                          int64_t answers) {
  const std::string& mode = options.importance_sampling_mode;
  const bool truncate = mode == "token_truncate" || mode == "sequence_truncate";
  if (!truncate && mode != "token_mask" && mode != "sequence_mask") {
    fail_usage(
        "importance_sampling_mode \"{}\" is unknown (token_truncate, token_mask, sequence_truncate, sequence_mask or "
        "none)",
        mode);
  }
  const bool by_answer = mode.starts_with("sequence");
  const auto ratio = at::exp(
      by_answer ? sum_by_answer(log_ratio, answer_of_token, answers).index_select(0, answer_of_token) : log_ratio);
  const double low = options.importance_sampling_clip_min;
  const double high = options.importance_sampling_clip_max;
  return truncate ? ratio.clamp(low, high) : ratio.masked_fill((ratio < low).logical_or(ratio > high), 0.0);
}

}  // namespace

PolicyLoss policy_loss(const PolicyLossOptions& options, const PolicyBatch& batch, const LossNormalizer& normalizer) {
  const auto answers = static_cast<int64_t>(batch.lengths.size());
  const auto lengths = at::tensor(batch.lengths, at::kLong);
  const auto answer_of_token = at::arange(answers, at::kLong).repeat_interleave(lengths);
  const auto token_counts = lengths.to(at::kFloat).clamp_min(1.0);
  const auto advantages = at::tensor(batch.advantages, at::kDouble).to(at::kFloat);
  const bool one_a_token = advantages.size(0) != answers;
  const auto token_advantages = one_a_token ? advantages : advantages.index_select(0, answer_of_token);
  const auto old = batch.old_logprobs.defined() ? batch.old_logprobs : batch.logprobs.detach();

  const auto log_ratio = batch.logprobs - old;
  const std::string& level = options.importance_sampling_level;
  if (level != "token" && level != "sequence" && level != "trajectory") {
    fail_usage("importance_sampling_level \"{}\" is unknown (token, sequence or trajectory)", level);
  }
  const bool by_answer = level != "token";
  if (by_answer && one_a_token) {
    fail_usage("importance_sampling_level {} needs one advantage an answer, not one a token", level);
  }
  Tensor answer_ratio;
  if (by_answer) {
    const auto sums = sum_by_answer(log_ratio, answer_of_token, answers);
    answer_ratio = at::exp(level == "sequence" ? sums / token_counts : sums);
  }
  const auto ratio = by_answer ? answer_ratio.index_select(0, answer_of_token) : at::exp(log_ratio);

  Tensor per_token;
  if (options.loss_type == "cispo") {
    per_token = -ratio.clamp_max(options.epsilon_high).detach() * token_advantages * batch.logprobs;
  } else if (options.loss_type == "sapo") {
    const auto temperature = at::where(token_advantages > 0, at::full({}, options.sapo_temperature_pos),
                                       at::full({}, options.sapo_temperature_neg));
    per_token = -at::sigmoid(temperature * (ratio - 1)) * 4 / temperature * token_advantages;
  } else {
    const auto clipped = ratio.clamp(1 - options.epsilon, 1 + options.epsilon_high);
    const auto bounded = options.delta > 0 ? ratio.clamp_max(options.delta) : ratio;
    per_token = -at::minimum(bounded * token_advantages, clipped * token_advantages);
  }

  PolicyLoss result;
  if (batch.sampling_logprobs.defined() && options.importance_sampling_mode != "none") {
    const auto weights = importance_weights(options, old - batch.sampling_logprobs, answer_of_token, answers);
    result.importance_sum = weights.sum().item<double>();
    per_token = per_token * weights;
  }
  if (batch.reference_logprobs.defined()) {
    const auto divergence = kl_estimate(options.kl_estimator, batch.logprobs, batch.reference_logprobs);
    result.kl_sum = divergence.detach().sum().item<double>();
    if (options.beta != 0) per_token = per_token + options.beta * divergence;
  } else if (options.beta != 0) {
    fail("policy_loss: beta {} needs the reference model's log-probabilities", options.beta);
  }

  const auto completions = static_cast<double>(std::max<int64_t>(1, normalizer.completions));
  const auto tokens = static_cast<double>(std::max<int64_t>(1, normalizer.tokens));
  const std::string& type = options.loss_type;
  if (type == "grpo" || type == "sapo") {
    result.loss = (sum_by_answer(per_token, answer_of_token, answers) / token_counts).sum() / completions;
  } else if (type == "bnpo" || type == "dapo" || type == "cispo") {
    result.loss = per_token.sum() / tokens;
  } else if (type == "dr_grpo") {
    result.loss = per_token.sum() / (completions * static_cast<double>(options.max_completion_length));
  } else if (type == "luspo") {
    result.loss = per_token.sum() / completions;
  } else {
    fail_usage("loss_type \"{}\" is unknown (grpo, bnpo, dr_grpo, dapo, cispo, sapo or luspo)", type);
  }

  if (options.entropy_coef != 0) {
    if (!batch.entropies.defined()) fail("policy_loss: entropy_coef {} needs the entropies", options.entropy_coef);
    result.loss = result.loss - options.entropy_coef * batch.entropies.sum() / tokens;
  }

  const auto bounded_ratio = by_answer ? answer_ratio.detach() : ratio.detach();
  const auto sign = by_answer ? advantages : token_advantages;
  result.counted = bounded_ratio.size(0);
  if (type == "cispo") {
    result.clipped_high = ((bounded_ratio > options.epsilon_high) & (sign > 0)).sum().item<int64_t>();
  } else if (type != "sapo") {
    result.clipped_low = ((bounded_ratio < 1 - options.epsilon) & (sign < 0)).sum().item<int64_t>();
    result.clipped_high = ((bounded_ratio > 1 + options.epsilon_high) & (sign > 0)).sum().item<int64_t>();
  }
  return result;
}

}  // namespace backburn::train
