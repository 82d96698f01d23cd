#include "backburn/train/policy_loss.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backburn/base/error.h"

namespace backburn::train {
namespace {

using at::Tensor;

// Sums a per-token tensor over each answer: [answers].
Tensor sum_by_answer(const Tensor& per_token, const Tensor& answer_of_token, int64_t answers) {
  return at::zeros({answers}, per_token.scalar_type()).index_add(0, answer_of_token, per_token);
}

}  // namespace

double standard_deviation(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  double square = 0;
  for (double value : values) square += (value - mean) * (value - mean);
  return std::sqrt(square / static_cast<double>(values.size() - 1));
}

std::vector<double> group_advantages(std::span<const double> rewards, int64_t num_generations,
                                     const std::string& scale_rewards) {
  if (scale_rewards != "group" && scale_rewards != "batch" && scale_rewards != "none") {
    fail_usage("scale_rewards \"{}\" is unknown (group, batch or none)", scale_rewards);
  }
  const double batch_scale = standard_deviation(rewards);
  std::vector<double> advantages;
  for (size_t begin = 0; begin < rewards.size(); begin += num_generations) {
    const auto group = rewards.subspan(begin, num_generations);
    const bool equal = std::all_of(group.begin(), group.end(), [&](double reward) { return reward == group.front(); });
    // Exactly 0 for equal rewards, which a rounded mean would not give.
    const double mean =
        equal ? group.front() : std::accumulate(group.begin(), group.end(), 0.0) / static_cast<double>(num_generations);
    const double scale = scale_rewards == "group" ? standard_deviation(group) : batch_scale;
    for (double reward : group) {
      advantages.push_back(scale_rewards == "none" ? reward - mean : (reward - mean) / (scale + 1e-4));
    }
  }
  return advantages;
}

PolicyLoss policy_loss(const PolicyLossOptions& options, const PolicyBatch& batch, const LossNormalizer& normalizer) {
  const auto answers = static_cast<int64_t>(batch.lengths.size());
  const auto lengths = at::tensor(batch.lengths, at::kLong);
  const auto answer_of_token = at::arange(answers, at::kLong).repeat_interleave(lengths);
  const auto token_counts = lengths.to(at::kFloat).clamp_min(1.0);
  const auto advantages = at::tensor(batch.advantages, at::kDouble).to(at::kFloat);
  const auto token_advantages = advantages.index_select(0, answer_of_token);
  const auto old = batch.old_logprobs.defined() ? batch.old_logprobs : batch.logprobs.detach();

  const auto log_ratio = batch.logprobs - old;
  const bool by_sequence = options.importance_sampling_level == "sequence";
  if (!by_sequence && options.importance_sampling_level != "token") {
    fail_usage("importance_sampling_level \"{}\" is unknown (token or sequence)", options.importance_sampling_level);
  }
  const auto answer_ratio =
      by_sequence ? at::exp(sum_by_answer(log_ratio, answer_of_token, answers) / token_counts) : Tensor();
  const auto ratio = by_sequence ? answer_ratio.index_select(0, answer_of_token) : at::exp(log_ratio);

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
  if (batch.reference_logprobs.defined()) {
    // k3 (Schulman 2020): unbiased, never negative.
    const auto gap = batch.reference_logprobs - batch.logprobs;
    const auto divergence = at::exp(gap) - gap - 1;
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

  const auto bounded_ratio = by_sequence ? answer_ratio.detach() : ratio.detach();
  const auto sign = by_sequence ? advantages : token_advantages;
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
