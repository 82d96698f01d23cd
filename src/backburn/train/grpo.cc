#include "backburn/train/grpo.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/base/phases.h"
#include "backburn/base/rng.h"
#include "backburn/base/stopwatch.h"
#include "backburn/train/logprobs.h"

namespace backburn::train {
namespace {

// Tokens in one forward and backward pass; a group is never split.
constexpr int64_t tokens_per_pass = 2048;

// Whole groups that go through the model together, and their tokens laid end to end in the order of the answers.
struct Pass {
  model::PackedTokens tokens;
  Predictions predictions;
  std::vector<double> advantages;
  std::vector<float> sampled_logprobs;  // as the rollout saw them
  std::vector<int64_t> recorded_rows;   // a row per token, where the rollout left its activations
  at::Tensor old_logprobs;              // filled when there is a second iteration
  at::Tensor reference_logprobs;        // filled when the KL is wanted
};

// The groups of a step, and the activations of their answers where the rollout kept them.
struct Sampled {
  std::vector<Group> groups;
  std::optional<generate::RolloutRecord> record;
};

std::vector<Pass> make_passes(std::span<const std::vector<int32_t>> prompts, const Sampled& sampled,
                              bool only_differential) {
  std::vector<Pass> passes;
  std::vector<model::TokenTree> trees;
  std::vector<const std::vector<int32_t>*> answers;
  Pass next;
  int64_t size = 0;
  auto flush = [&] {
    if (trees.empty()) return;
    next.tokens = model::pack(trees);
    next.predictions = answer_predictions(next.tokens, answers);
    passes.push_back(std::exchange(next, {}));
    trees.clear();
    answers.clear();
    size = 0;
  };
  auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (size_t i = 0; i < sampled.groups.size(); ++i) {
    const Group& group = sampled.groups[i];
    if (only_differential && !group.has_differential()) continue;
    model::TokenTree tree{prompts[group.prompt], {}};
    for (const auto& completion : group.completions) {
      tree.branches.emplace_back(completion.ids.begin(), completion.ids.end() - 1);
    }
    if (size + tree.size() > tokens_per_pass) flush();
    if (sampled.record) append(next.recorded_rows, sampled.record->prompt_rows[i]);
    for (const auto& completion : group.completions) {
      answers.push_back(&completion.ids);
      append(next.sampled_logprobs, completion.logprobs);
      append(next.recorded_rows, completion.rows);
    }
    append(next.advantages, group.advantages);
    size += tree.size();
    trees.push_back(std::move(tree));
  }
  flush();
  return passes;
}

at::Tensor logprobs_at(const model::Network& network, const Pass& pass, const at::Tensor& hidden, double temperature) {
  const auto states = hidden.index_select(0, pass.predictions.rows);
  return token_logprobs(network, states, pass.predictions.targets, temperature).logprobs;
}

at::Tensor pass_logprobs(const model::Network& network, const Pass& pass, double temperature) {
  const Phase phase("forward");
  return logprobs_at(network, pass, hidden_states(network, pass.tokens), temperature);
}

// The same from what the rollout kept.
at::Tensor recorded_logprobs(const model::Network& network, const Pass& pass, model::Activations activations,
                             double temperature) {
  const Phase phase("recorded forward");
  const auto hidden = recorded_hidden_states(network, pass.tokens, std::move(activations), pass.recorded_rows);
  return logprobs_at(network, pass, hidden, temperature);
}

// The largest |ln π| between what a pass says of a token and what the rollout said when it drew it.
double sampling_difference(const Pass& pass, const at::Tensor& logprobs) {
  const auto now = logprobs.detach().contiguous();
  double largest = 0;
  for (size_t i = 0; i < pass.sampled_logprobs.size(); ++i) {
    largest = std::max(largest, static_cast<double>(std::abs(now.data_ptr<float>()[i] - pass.sampled_logprobs[i])));
  }
  return largest;
}

// A record for the activations of these requests, if they can be kept and fit.
std::optional<generate::RolloutRecord> make_record(const Learner& learner,
                                                   std::span<const generate::RolloutRequest> requests,
                                                   const GrpoOptions& options) {
  const model::Model& base = *learner.base;
  if (options.kept_activations_gib == 0 || learner.gradient_checkpointing || !base.weights.packed) return {};
  const int64_t tokens = generate::most_tokens(requests, options.max_completion_length);
  const auto bytes = static_cast<double>(tokens * model::activation_bytes(base.config, learner.adapter.rank));
  if (bytes > options.kept_activations_gib * (1 << 30)) return {};
  return generate::RolloutRecord{model::allocate_activations(base.config, learner.adapter.rank, tokens), {}};
}

Sampled sample_groups(const Learner& learner, std::span<const std::vector<int32_t>> prompts, const GrpoOptions& options,
                      uint64_t seed) {
  const Phase phase("generate");
  Sampled result;
  auto& groups = result.groups;
  std::vector<generate::RolloutRequest> requests;
  const auto step = static_cast<uint64_t>(learner.step);
  for (const size_t prompt : prompts_of_step(prompts.size(), options.prompts_per_step, learner.step, seed)) {
    // By place in the step, not by prompt: with few prompts one comes up twice in a step, and needs other answers.
    requests.push_back({prompts[prompt], options.num_generations, stream_of({step, groups.size()})});
    groups.push_back({prompt, {}, {}, {}, {}});
  }
  generate::RolloutOptions rollout_options;
  rollout_options.sampling = {options.temperature, options.top_k, options.top_p, options.min_p};
  rollout_options.max_completion_length = options.max_completion_length;
  rollout_options.seed = seed;
  result.record = make_record(learner, requests, options);
  auto sampled =
      generate::rollout(learner.network(), requests, rollout_options, {}, result.record ? &*result.record : nullptr);
  for (size_t i = 0; i < groups.size(); ++i) {
    groups[i].completions = std::move(sampled[i]);
    for (const auto& completion : groups[i].completions) {
      groups[i].texts.push_back(learner.base->tokenizer.decode(completion.ids));
    }
  }
  return result;
}

void score_groups(std::vector<Group>& groups, const GrpoOptions& options, const RewardFunction& reward) {
  const Phase phase("score");
  std::vector<double> rewards;
  for (Group& group : groups) {
    group.rewards = reward(group);
    if (group.rewards.size() != group.completions.size()) throw std::logic_error("grpo: a reward is missing");
    rewards.insert(rewards.end(), group.rewards.begin(), group.rewards.end());
  }
  const auto advantages = group_advantages(rewards, options.num_generations, options.scale_rewards);
  auto next = advantages.begin();
  for (Group& group : groups) {
    group.advantages.assign(next, next + options.num_generations);
    next += options.num_generations;
  }
}

// What the answers say by themselves, before any update.
StepMetrics describe(const std::vector<Group>& groups, int64_t max_completion_length) {
  StepMetrics metrics;
  double answers = 0;
  double entropy = 0;
  for (const Group& group : groups) {
    metrics.reward_std += standard_deviation(group.rewards) / static_cast<double>(groups.size());
    metrics.frac_reward_zero_std += (group.has_differential() ? 0.0 : 1.0) / static_cast<double>(groups.size());
    for (size_t i = 0; i < group.completions.size(); ++i) {
      const auto& completion = group.completions[i];
      answers += 1;
      metrics.reward += group.rewards[i];
      metrics.tokens += static_cast<int64_t>(completion.ids.size());
      metrics.clipped_length_ratio +=
          !completion.stopped && static_cast<int64_t>(completion.ids.size()) >= max_completion_length ? 1 : 0;
      entropy += std::accumulate(completion.entropies.begin(), completion.entropies.end(), 0.0);
    }
  }
  metrics.reward /= answers;
  metrics.clipped_length_ratio /= answers;
  metrics.completion_length = static_cast<double>(metrics.tokens) / answers;
  metrics.entropy = entropy / static_cast<double>(metrics.tokens);
  return metrics;
}

PolicyBatch batch_of(const Pass& pass, at::Tensor logprobs) {
  return {std::move(logprobs), pass.old_logprobs, pass.reference_logprobs, pass.predictions.lengths, pass.advantages};
}

}  // namespace

bool Group::has_differential() const {
  return std::any_of(rewards.begin(), rewards.end(), [&](double reward) { return reward != rewards.front(); });
}

Json StepMetrics::to_json() const {
  return {{"step", step},
          {"reward", reward},
          {"reward_std", reward_std},
          {"frac_reward_zero_std", frac_reward_zero_std},
          {"entropy", entropy},
          {"kl", kl ? Json(*kl) : Json()},
          {"clip_ratio", clip_ratio},
          {"sampling_logp_difference", sampling_logp_difference},
          {"completion_length", completion_length},
          {"clipped_length_ratio", clipped_length_ratio},
          {"grad_norm", grad_norm},
          {"learning_rate", learning_rate},
          {"loss", loss},
          {"tokens_per_second", static_cast<double>(tokens) / std::max(1e-9, seconds_generate)},
          {"seconds", {{"generate", seconds_generate}, {"score", seconds_score}, {"update", seconds_update}}}};
}

std::vector<size_t> prompts_of_step(size_t prompts, int64_t prompts_per_step, int64_t step, uint64_t seed) {
  std::vector<size_t> chosen;
  const auto first = static_cast<size_t>(step * prompts_per_step);
  for (size_t i = first; i < first + static_cast<size_t>(prompts_per_step); ++i) {
    chosen.push_back(shuffled(prompts, seed, stream_of({0x726f756e64, i / prompts}))[i % prompts]);
  }
  return chosen;
}

StepResult grpo_step(Learner& learner, std::span<const std::vector<int32_t>> prompts, const GrpoOptions& options,
                     uint64_t seed, const RewardFunction& reward, const ExtraGradient& extra) {
  throw_if_stopped();
  const Phase step("GRPO step");
  Stopwatch watch;
  auto sampled = sample_groups(learner, prompts, options, seed);
  auto& groups = sampled.groups;
  const double seconds_generate = watch.lap();
  score_groups(groups, options, reward);
  const double seconds_score = watch.lap();

  StepMetrics metrics = describe(groups, options.max_completion_length);
  metrics.seconds_generate = seconds_generate;
  metrics.seconds_score = seconds_score;

  // A group without differential has zero advantages: only a KL penalty would give it a gradient.
  const bool penalised = options.loss.beta != 0;
  const bool measure_kl = penalised || (options.kl_steps > 0 && learner.step % options.kl_steps == 0);
  auto passes = make_passes(prompts, sampled, !measure_kl);
  const auto network = learner.network();
  if (measure_kl) {
    const at::NoGradGuard no_grad;
    for (Pass& pass : passes)
      pass.reference_logprobs = pass_logprobs(learner.base->network(), pass, options.temperature);
  }
  const int64_t answers = options.num_generations * static_cast<int64_t>(groups.size());
  const bool any_gradient = penalised || metrics.frac_reward_zero_std < 1;
  auto loss_options = options.loss;
  loss_options.max_completion_length = options.max_completion_length;

  double clipped = 0;
  double ratios = 0;
  double kl_sum = 0;
  for (int64_t iteration = 0; iteration < options.num_iterations; ++iteration) {
    for (Pass& pass : passes) {
      const at::AutoGradMode grad(any_gradient);
      const bool recorded = iteration == 0 && sampled.record;
      const bool last = &pass == &passes.back();
      const auto logprobs =
          recorded ? recorded_logprobs(network, pass,
                                       last ? std::move(sampled.record->activations) : sampled.record->activations,
                                       options.temperature)
                   : pass_logprobs(network, pass, options.temperature);
      const auto result = policy_loss(loss_options, batch_of(pass, logprobs), {answers, metrics.tokens});
      if (any_gradient) {
        const Phase phase("backward");
        result.loss.backward();
      }
      if (iteration == 0) {
        metrics.sampling_logp_difference =
            std::max(metrics.sampling_logp_difference, sampling_difference(pass, logprobs));
        pass.old_logprobs = logprobs.detach();
        kl_sum += result.kl_sum;
        metrics.loss += result.loss.item<double>();
      }
      clipped += static_cast<double>(result.clipped_low + result.clipped_high);
      ratios += static_cast<double>(result.counted);
    }
    if (extra) metrics.loss += extra(network);
    metrics.learning_rate = learning_rate_at(options.optimizer, learner.step, options.max_steps);
    metrics.grad_norm =
        optimizer_step(options.optimizer, metrics.learning_rate, learner.adapter.parameters(), learner.optimizer);
  }
  ++learner.step;
  metrics.step = learner.step;
  if (ratios > 0) metrics.clip_ratio = clipped / ratios;
  if (measure_kl) metrics.kl = kl_sum / static_cast<double>(metrics.tokens);
  metrics.seconds_update = watch.lap();
  return {metrics, std::move(groups)};
}

}  // namespace backburn::train
