#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/base/options.h"
#include "backburn/generate/rollout.h"
#include "backburn/train/advantages.h"
#include "backburn/train/critic.h"
#include "backburn/train/learner.h"
#include "backburn/train/policy_loss.h"

namespace backburn::train {

/// Group Relative Policy Optimization (Shao 2024, arXiv 2402.03300) in TRL's option names and with TRL's meaning.
struct GrpoOptions {
  int64_t max_steps = 50;
  int64_t prompts_per_step = 4;        ///< groups in a step
  int64_t num_generations = 8;         ///< answers in a group
  int64_t max_completion_length = 48;  ///< tokens
  double temperature = 1.0;
  int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
  int64_t num_iterations = 1;  ///< updates on the same answers
  /// DAPO's dynamic sampling (Yu 2025, arXiv 2503.14476): while fewer than prompts_per_step groups have a differential,
  /// a step samples again, up to so many times in all, and learns from groups with one alone. 1: learn from all groups.
  int64_t max_num_gen_batches = 1;
  AdvantageOptions advantage;
  CriticOptions critic;  ///< for advantage_estimator gae
  PolicyLossOptions loss;
  OptimizerOptions optimizer;
  LoraOptions lora;
  /// With beta 0 the KL to the model before training costs a forward pass that nothing else needs; it is measured
  /// every so many steps. 0: never.
  int64_t kl_steps = 10;
  /// Memory in which generation may leave its activations, so that the update needs no forward pass; a step whose
  /// tokens don't fit computes them again.
  double kept_activations_gib = 3;
  /// Updates that answers may be behind the weights that learn from them (TRL's AsyncGRPOConfig): 0, or 1 to sample a
  /// step's answers before the update of the step before, while the judge scores that one's on a thread of its own.
  int64_t max_staleness = 0;
};

/// One prompt's answers and what became of them.
struct Group {
  size_t prompt = 0;                              ///< which of the prompts
  std::vector<generate::Completion> completions;  ///< num_generations
  std::vector<std::string> texts;                 ///< decoded, special tokens left out
  std::vector<double> rewards;
  std::vector<double> advantages;
  std::vector<int64_t> prompt_rows;  ///< with a record: of the prompt's tokens, see generate::Completion::rows
  bool has_differential() const;     ///< whether any two rewards differ
};

struct StepMetrics {
  int64_t step = 0;  ///< from 1
  double reward = 0,
         reward_std = 0;            ///< mean over answers; mean over groups of their standard deviation, as TRL has it
  double frac_reward_zero_std = 0;  ///< share of groups without differential
  double entropy = 0;               ///< nats, mean over tokens
  std::optional<double> kl;         ///< nats a token to the model before training, as kl_estimator finds it
  double clip_ratio = 0;            ///< share of ratios that the clip stopped
  /// Mean over tokens of the weight that corrects for answers of older weights; none: there were no such answers.
  std::optional<double> importance_sampling_ratio;
  /// The largest difference between the log-probability of a sampled token in the update (before it) and in the
  /// rollout, over the groups that were updated. What TRL corrects by importance sampling when vLLM samples; here both
  /// run the same kernels. With answers of older weights it is what the update in between has moved.
  double sampling_logp_difference = 0;
  double completion_length = 0;     ///< tokens, mean
  double clipped_length_ratio = 0;  ///< share of answers that hit max_completion_length
  double grad_norm = 0, learning_rate = 0, loss = 0;
  int64_t tokens = 0;  ///< sampled
  /// What sampling these answers took, whenever that was; waiting for their scores; the update.
  double seconds_generate = 0, seconds_score = 0, seconds_update = 0;
  Json to_json() const;
};

/// A reward for each answer of a group, whose `completions` and `texts` are filled. With max_staleness 1 it is called
/// by another thread than the one that computes, while that one computes.
using RewardFunction = std::function<std::vector<double>(const Group& group)>;

/// Adds further gradients to the learner's adapter before the update (an anchor). Returns its loss.
using ExtraGradient = std::function<double(const model::Network& network)>;

struct StepResult {
  StepMetrics metrics;
  std::vector<Group> groups;  ///< all that were sampled; those that dynamic sampling left out have no advantages
};

/// The prompts of step `step`: everyone in turn, in an order that `seed` shuffles anew for each round.
std::vector<size_t> prompts_of_step(size_t prompts, int64_t prompts_per_step, int64_t step, uint64_t seed);

/// A fresh learner with what the options train: the adapter and, for gae, the critic.
Learner make_grpo_learner(const model::Model& base, const GrpoOptions& options, uint64_t seed);

/// The groups of the learner's step, without rewards and advantages.
std::vector<Group> sample_groups(const Learner& learner, std::span<const std::vector<int32_t>> prompts,
                                 const GrpoOptions& options, uint64_t seed);

/// What scored answers say by themselves, before any update.
StepMetrics describe(std::span<const Group> groups, int64_t max_completion_length);

/// One step: sample, score, advantages, loss, update. `prompts` are all prompts as token ids; groups whose
/// advantages are all zero cost no forward and backward pass, and the optimizer steps all the same, as its momentum
/// would in TRL. Samples by the learner's own weights: options.max_staleness must be 0.
/// With advantage_estimator gae it is PPO's step (Schulman 2017, arXiv 1707.06347): all groups count, advantages are
/// one a token, and the learner must have a value head.
StepResult grpo_step(Learner& learner, std::span<const std::vector<int32_t>> prompts, const GrpoOptions& options,
                     uint64_t seed, const RewardFunction& reward, const ExtraGradient& extra = {});

/// All prompts as token ids, as step `step` asks them.
using PromptsOfStep = std::function<std::vector<std::vector<int32_t>>(int64_t step)>;

/// The answers of a step to come, sampled by the weights before the update that comes first.
struct Ahead {
  int64_t step = -1;  ///< whose they are; −1: none
  std::vector<Group> groups;
  double seconds_generate = 0;
};

/// grpo_step of a run that may sample ahead (max_staleness); `ahead` is handed from step to step. With max_staleness 1,
/// answers of older weights are corrected for by importance_sampling_mode. The steps after a checkpoint (learner.h)
/// sample by their own weights, so that a checkpoint needs no answers: a run that goes on from one has the same bits.
/// Nothing depends on how long the judge takes. Errors: max_staleness together with dynamic sampling, which must see
/// a step's scores before it samples more (usage).
StepResult grpo_step(Learner& learner, const PromptsOfStep& prompts, const GrpoOptions& options, uint64_t seed,
                     const RewardFunction& reward, Ahead& ahead);

/// Binds the fields as "PREFIX.max_steps" and so on, for recipes and --set.
void bind(Options& options, const std::string& prefix, GrpoOptions& grpo);
void bind(Options& options, const std::string& prefix, OptimizerOptions& optimizer);
void bind(Options& options, const std::string& prefix, LoraOptions& lora);

}  // namespace backburn::train
