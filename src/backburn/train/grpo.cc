#include "backburn/train/grpo.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <iterator>
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
  std::vector<float> normalizers;       // of the distributions that it drew from
  std::vector<int64_t> recorded_rows;   // a row per token, where the rollout left its activations
  at::Tensor old_logprobs;              // filled when there is a second iteration
  at::Tensor reference_logprobs;        // filled when the KL is wanted
  at::Tensor old_values, returns;       // filled when there is a critic
};

bool has_gradient(const Group& group) {
  return std::any_of(group.advantages.begin(), group.advantages.end(), [](double advantage) { return advantage != 0; });
}

std::vector<Pass> make_passes(std::span<const std::vector<int32_t>> prompts, std::span<const Group* const> groups,
                              bool only_with_gradient) {
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
  for (const Group* group : groups) {
    if (only_with_gradient && !has_gradient(*group)) continue;
    model::TokenTree tree{prompts[group->prompt], {}};
    for (const auto& completion : group->completions) {
      tree.branches.emplace_back(completion.ids.begin(), completion.ids.end() - 1);
    }
    if (size + tree.size() > tokens_per_pass) flush();
    append(next.recorded_rows, group->prompt_rows);
    for (const auto& completion : group->completions) {
      answers.push_back(&completion.ids);
      append(next.sampled_logprobs, completion.logprobs);
      append(next.normalizers, completion.normalizers);
      append(next.recorded_rows, completion.rows);
    }
    append(next.advantages, group->advantages);
    size += tree.size();
    trees.push_back(std::move(tree));
  }
  flush();
  return passes;
}

// One forward pass, and what the losses are made of.
struct Forward {
  PolicyBatch batch;
  at::Tensor values;  // the critic's, when there is one
};

// `stale`: other weights have sampled. `recorded`: what the rollout kept, which saves the pass through the layers and
// the head.
Forward forward(const Learner& learner, const Pass& pass, const GrpoOptions& options, bool stale = false,
                std::optional<model::Activations> recorded = {}) {
  const Phase phase("forward");
  const auto network = learner.network();
  const bool is_recorded = recorded.has_value();
  const auto hidden =
      is_recorded ? model::recorded_hidden_states(network, pass.tokens, std::move(*recorded), pass.recorded_rows)
                  : hidden_states(network, pass.tokens);
  const auto states = states_at(hidden, pass.predictions);
  const auto& targets = pass.predictions.targets;
  Forward result{{is_recorded ? sampled_token_logprobs(network, states, targets, options.temperature,
                                                       at::tensor(pass.sampled_logprobs), at::tensor(pass.normalizers))
                              : token_logprobs(network, states, targets, options.temperature).logprobs,
                  pass.old_logprobs,
                  pass.reference_logprobs,
                  {},
                  pass.predictions.lengths,
                  pass.advantages,
                  stale ? at::tensor(pass.sampled_logprobs) : at::Tensor()},
                 {}};
  if (options.loss.entropy_coef != 0) result.batch.entropies = token_entropies(network, states, options.temperature);
  if (learner.value_head.defined()) result.values = values_of(learner.value_head, states);
  return result;
}

at::Tensor reference_logprobs(const Learner& learner, const Pass& pass, double temperature) {
  const Phase phase("reference");
  const at::NoGradGuard no_grad;
  const auto network = learner.base->network();
  const auto states = predicting_states(network, pass.tokens, pass.predictions);
  return token_logprobs(network, states, pass.predictions.targets, temperature).logprobs;
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

void score(std::span<Group> groups, const RewardFunction& reward) {
  for (Group& group : groups) {
    group.rewards = reward(group);
    if (group.rewards.size() != group.completions.size()) throw std::logic_error("grpo: a reward is missing");
  }
}

int64_t count_differentials(std::span<const Group> groups) {
  return std::count_if(groups.begin(), groups.end(), [](const Group& group) { return group.has_differential(); });
}

// All groups; with dynamic sampling, the first prompts_per_step that have a differential.
std::vector<Group*> groups_to_learn_from(std::vector<Group>& groups, const GrpoOptions& options) {
  const bool choose = options.max_num_gen_batches > 1;
  std::vector<Group*> chosen;
  for (Group& group : groups) {
    if (choose && (!group.has_differential() || std::ssize(chosen) == options.prompts_per_step)) continue;
    chosen.push_back(&group);
  }
  return chosen;
}

void set_advantages(std::span<Group* const> groups, const GrpoOptions& options) {
  std::vector<double> rewards;
  std::vector<int64_t> lengths;
  for (const Group* group : groups) {
    rewards.insert(rewards.end(), group->rewards.begin(), group->rewards.end());
    for (const auto& completion : group->completions) lengths.push_back(std::ssize(completion.ids));
  }
  const auto found = advantages(options.advantage, rewards, lengths, options.num_generations);
  auto next = found.begin();
  for (Group* group : groups) {
    group->advantages.assign(next, next + options.num_generations);
    next += options.num_generations;
  }
}

// PPO's advantages, one a token and whitened over all of them, in place of one an answer.
void set_token_advantages(const Learner& learner, std::vector<Pass>& passes, std::span<Group* const> groups,
                          const GrpoOptions& options) {
  const at::NoGradGuard no_grad;
  std::vector<double> all;
  auto group = groups.begin();
  for (Pass& pass : passes) {
    std::vector<double> rewards;
    for (; rewards.size() < pass.predictions.lengths.size(); ++group) {
      rewards.insert(rewards.end(), (*group)->rewards.begin(), (*group)->rewards.end());
    }
    pass.old_values = forward(learner, pass, options).values;
    const auto wide = pass.old_values.to(at::kDouble).contiguous();
    const std::span<const double> values(wide.data_ptr<double>(), static_cast<size_t>(wide.numel()));
    const auto found = generalized_advantages(rewards, values, pass.predictions.lengths, options.critic);
    pass.returns = at::tensor(found.returns, at::kDouble).to(at::kFloat);
    all.insert(all.end(), found.advantages.begin(), found.advantages.end());
  }
  whiten(all);
  auto next = all.begin();
  for (Pass& pass : passes) {
    pass.advantages.assign(next, next + pass.old_values.numel());
    next += pass.old_values.numel();
  }
}

// A record for the activations of all answers of a step, if they can be kept and fit.
std::optional<generate::RolloutRecord> make_record(const Learner& learner,
                                                   std::span<const std::vector<int32_t>> prompts,
                                                   const GrpoOptions& options) {
  const model::Model& base = *learner.base;
  if (options.kept_activations_gib == 0 || learner.gradient_checkpointing) return {};
  if (learner.full || !runs_on_kernels(learner.network())) return {};
  size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  const int64_t tokens =
      options.max_num_gen_batches * options.prompts_per_step *
      (static_cast<int64_t>(longest) + options.num_generations * (options.max_completion_length - 1));
  const auto bytes = static_cast<double>(tokens * model::activation_bytes(base.config, learner.adapter.rank));
  if (bytes > options.kept_activations_gib * (1 << 30)) return {};
  return generate::RolloutRecord{model::allocate_activations(base.config, learner.adapter.rank, tokens), {}};
}

// The groups of a step, without rewards and advantages, by the weights that the learner has now.
std::vector<Group> sample_groups_of(int64_t step, const Learner& learner, std::span<const std::vector<int32_t>> prompts,
                                    const GrpoOptions& options, uint64_t seed, int64_t batch,
                                    generate::RolloutRecord* record) {
  const Phase phase("generate");
  std::vector<Group> groups;
  std::vector<generate::RolloutRequest> requests;
  const auto before = static_cast<uint64_t>(batch * options.prompts_per_step);
  for (const size_t prompt : prompts_of_step(prompts.size(), options.prompts_per_step, step + batch, seed)) {
    // By place in the step, not by prompt: with few prompts one comes up twice in a step, and needs other answers.
    const uint64_t stream = stream_of({static_cast<uint64_t>(step), before + groups.size()});
    requests.push_back({prompts[prompt], options.num_generations, stream});
    groups.push_back({prompt, {}, {}, {}, {}, {}});
  }
  generate::RolloutOptions rollout_options;
  rollout_options.sampling = {options.temperature, options.top_k, options.top_p, options.min_p};
  rollout_options.max_completion_length = options.max_completion_length;
  rollout_options.seed = seed;
  auto sampled = generate::rollout(learner.sampling_network(), requests, rollout_options, {}, record);
  auto prompt_rows = record == nullptr ? std::vector<std::vector<int64_t>>() : std::exchange(record->prompt_rows, {});
  const Phase decoding("text of answers");
  for (size_t i = 0; i < groups.size(); ++i) {
    if (record != nullptr) groups[i].prompt_rows = std::move(prompt_rows[i]);
    groups[i].completions = std::move(sampled[i]);
    for (const auto& completion : groups[i].completions) {
      groups[i].texts.push_back(learner.base->tokenizer.decode(completion.ids));
    }
  }
  return groups;
}

// A step's answers, scored.
struct Scored {
  std::vector<Group> groups;
  std::optional<generate::RolloutRecord> record;  // what sampling them by the learner's own weights has left
  bool stale = false;                             // weights before the last update have sampled them
  double seconds_generate = 0, seconds_score = 0;
};

// Samples and scores until there are enough groups to learn from.
Scored gather_groups(const Learner& learner, std::span<const std::vector<int32_t>> prompts, const GrpoOptions& options,
                     uint64_t seed, const RewardFunction& reward) {
  Scored all{{}, make_record(learner, prompts, options), false, 0, 0};
  Stopwatch watch;
  for (int64_t batch = 0; batch < options.max_num_gen_batches; ++batch) {
    if (batch > 0 && count_differentials(all.groups) >= options.prompts_per_step) break;
    auto more =
        sample_groups_of(learner.step, learner, prompts, options, seed, batch, all.record ? &*all.record : nullptr);
    all.seconds_generate += watch.lap();
    const Phase phase("score");
    score(more, reward);
    all.seconds_score += watch.lap();
    std::move(more.begin(), more.end(), std::back_inserter(all.groups));
  }
  return all;
}

// The step's answers, those that were sampled ahead if there are some; meanwhile samples those of the next.
Scored gather_and_go_ahead(const Learner& learner, std::span<const std::vector<int32_t>> prompts,
                           const PromptsOfStep& prompts_of, const GrpoOptions& options, uint64_t seed,
                           const RewardFunction& reward, Ahead& ahead) {
  Stopwatch watch;
  Scored now;
  now.stale = ahead.step == learner.step;
  if (now.stale) {
    now.groups = std::move(ahead.groups);
    now.seconds_generate = ahead.seconds_generate;
  } else {
    now.record = make_record(learner, prompts, options);
    now.groups =
        sample_groups_of(learner.step, learner, prompts, options, seed, 0, now.record ? &*now.record : nullptr);
    now.seconds_generate = watch.lap();
  }
  ahead = {};
  auto scores = std::async(std::launch::async, [&] { score(now.groups, reward); });
  const int64_t next = learner.step + 1;
  if (next < options.max_steps && next % checkpoint_steps != 0) {
    auto groups = sample_groups_of(next, learner, prompts_of(next), options, seed, 0, nullptr);
    ahead = {next, std::move(groups), watch.lap()};
  }
  const Phase phase("score");
  scores.get();
  now.seconds_score = watch.lap();
  return now;
}

LossNormalizer normalizer_of(std::span<Group* const> groups) {
  LossNormalizer normalizer;
  for (const Group* group : groups) {
    normalizer.completions += std::ssize(group->completions);
    for (const auto& completion : group->completions) normalizer.tokens += std::ssize(completion.ids);
  }
  return normalizer;
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
          {"importance_sampling_ratio", importance_sampling_ratio ? Json(*importance_sampling_ratio) : Json()},
          {"sampling_logp_difference", sampling_logp_difference},
          {"completion_length", completion_length},
          {"clipped_length_ratio", clipped_length_ratio},
          {"grad_norm", grad_norm},
          {"learning_rate", learning_rate},
          {"loss", loss},
          {"tokens_per_second", static_cast<double>(tokens) / std::max(1e-9, seconds_generate)},
          {"seconds", {{"generate", seconds_generate}, {"score", seconds_score}, {"update", seconds_update}}}};
}

Learner make_grpo_learner(const model::Model& base, const GrpoOptions& options, uint64_t seed) {
  auto learner = make_learner(base, options.lora, seed);
  if (options.advantage.advantage_estimator == "gae") add_value_head(learner);
  return learner;
}

std::vector<size_t> prompts_of_step(size_t prompts, int64_t prompts_per_step, int64_t step, uint64_t seed) {
  std::vector<size_t> chosen;
  const auto first = static_cast<size_t>(step * prompts_per_step);
  for (size_t i = first; i < first + static_cast<size_t>(prompts_per_step); ++i) {
    chosen.push_back(shuffled(prompts, seed, stream_of({0x726f756e64, i / prompts}))[i % prompts]);
  }
  return chosen;
}

std::vector<Group> sample_groups(const Learner& learner, std::span<const std::vector<int32_t>> prompts,
                                 const GrpoOptions& options, uint64_t seed) {
  return sample_groups_of(learner.step, learner, prompts, options, seed, 0, nullptr);
}

StepMetrics describe(std::span<const Group> groups, int64_t max_completion_length) {
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

namespace {

// Advantages, loss and update.
StepResult learn_from(Scored&& scored, Learner& learner, std::span<const std::vector<int32_t>> prompts,
                      const GrpoOptions& options, const ExtraGradient& extra) {
  Stopwatch watch;
  auto& [groups, record, stale, seconds_generate, seconds_score] = scored;
  StepMetrics metrics = describe(groups, options.max_completion_length);
  metrics.seconds_generate = seconds_generate;
  metrics.seconds_score = seconds_score;

  const bool with_critic = options.advantage.advantage_estimator == "gae";
  if (with_critic && !learner.value_head.defined()) throw std::logic_error("grpo_step: gae without a value head");
  const auto learnt = groups_to_learn_from(groups, options);
  if (!with_critic) set_advantages(learnt, options);
  const auto normalizer = normalizer_of(learnt);
  // A group without advantages has no gradient but that of a KL penalty or an entropy bonus.
  const bool penalised = options.loss.beta != 0 || options.loss.entropy_coef != 0;
  const bool measure_kl =
      options.loss.beta != 0 || (options.kl_steps > 0 && learner.step % options.kl_steps == 0 && !learnt.empty());
  auto passes = make_passes(prompts, learnt, !measure_kl && !penalised && !with_critic);
  if (with_critic) set_token_advantages(learner, passes, learnt, options);
  if (measure_kl) {
    for (Pass& pass : passes) pass.reference_logprobs = reference_logprobs(learner, pass, options.temperature);
  }
  const bool any_gradient =
      penalised || with_critic ||
      std::any_of(learnt.begin(), learnt.end(), [](const Group* group) { return has_gradient(*group); });
  auto loss_options = options.loss;
  loss_options.max_completion_length = options.max_completion_length;

  double clipped = 0;
  double ratios = 0;
  double kl_sum = 0;
  double importance_sum = 0;
  double tokens = 0;
  for (int64_t iteration = 0; iteration < options.num_iterations; ++iteration) {
    for (Pass& pass : passes) {
      const at::AutoGradMode grad(any_gradient);
      std::optional<model::Activations> recorded;
      if (record && iteration == 0) {
        recorded = &pass == &passes.back() ? std::move(record->activations) : record->activations;
      }
      const auto [batch, values] = forward(learner, pass, options, stale, std::move(recorded));
      auto result = policy_loss(loss_options, batch, normalizer);
      if (with_critic) {
        const auto missed = value_loss(values, pass.old_values, pass.returns, options.critic.cliprange_value);
        result.loss = result.loss + missed * (options.critic.vf_coef / static_cast<double>(normalizer.tokens));
      }
      if (any_gradient) {
        const Phase phase("backward");
        result.loss.backward();
      }
      if (iteration == 0) {
        metrics.sampling_logp_difference =
            std::max(metrics.sampling_logp_difference, sampling_difference(pass, batch.logprobs));
        pass.old_logprobs = batch.logprobs.detach();
        kl_sum += result.kl_sum;
        importance_sum += result.importance_sum;
        tokens += static_cast<double>(pass.sampled_logprobs.size());
        metrics.loss += result.loss.item<double>();
      }
      clipped += static_cast<double>(result.clipped_low + result.clipped_high);
      ratios += static_cast<double>(result.counted);
    }
    if (extra) metrics.loss += extra(learner.network());
    metrics.learning_rate = learning_rate_at(options.optimizer, learner.step, options.max_steps);
    metrics.grad_norm =
        optimizer_step(options.optimizer, metrics.learning_rate, learner.parameters(), learner.optimizer);
  }
  ++learner.step;
  metrics.step = learner.step;
  if (ratios > 0) metrics.clip_ratio = clipped / ratios;
  if (measure_kl && normalizer.tokens > 0) metrics.kl = kl_sum / static_cast<double>(normalizer.tokens);
  if (stale && tokens > 0 && options.loss.importance_sampling_mode != "none") {
    metrics.importance_sampling_ratio = importance_sum / tokens;
  }
  metrics.seconds_update = watch.lap();
  return {metrics, std::move(groups)};
}

}  // namespace

StepResult grpo_step(Learner& learner, std::span<const std::vector<int32_t>> prompts, const GrpoOptions& options,
                     uint64_t seed, const RewardFunction& reward, const ExtraGradient& extra) {
  if (options.max_staleness != 0) throw std::logic_error("grpo_step: max_staleness without answers sampled ahead");
  throw_if_stopped();
  const Phase step("GRPO step");
  return learn_from(gather_groups(learner, prompts, options, seed, reward), learner, prompts, options, extra);
}

StepResult grpo_step(Learner& learner, const PromptsOfStep& prompts_of, const GrpoOptions& options, uint64_t seed,
                     const RewardFunction& reward, Ahead& ahead) {
  const auto prompts = prompts_of(learner.step);
  if (options.max_staleness == 0) return grpo_step(learner, prompts, options, seed, reward);
  if (options.max_num_gen_batches > 1) {
    fail_usage(
        "max_staleness 1 does not go with max_num_gen_batches {}: dynamic sampling needs a step's scores before it "
        "samples more; set one of them back",
        options.max_num_gen_batches);
  }
  throw_if_stopped();
  const Phase step("GRPO step");
  auto scored = gather_and_go_ahead(learner, prompts, prompts_of, options, seed, reward, ahead);
  return learn_from(std::move(scored), learner, prompts, options, {});
}

}  // namespace backburn::train
