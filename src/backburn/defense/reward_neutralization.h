#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// The terms of the RL phase's reward, each 0–1 (Cao 2025, section 4: concise, uniform, minimal information):
/// "refusal": 1 for a refusal; "concise": 1 for one no longer than the canonical refusal, less for a longer one;
/// "uniform": the share of the canonical refusal's tokens that the answer begins with.
const std::vector<std::string>& neutralization_terms();

/// The mean of some of these terms. With all three only y* itself earns 1, so that all samples are drawn to the same
/// answer.
double neutralization_reward(std::span<const int32_t> answer, std::span<const int32_t> refusal, bool is_refusal,
                             std::span<const std::string> terms);

/// The options of a defense's GRPO, out of the recipe's rl_* keys.
train::GrpoOptions rl_options(const NeutralizationOptions& options, int64_t max_steps);

/// Where a round looks for what it shows most often: a share of `count` indices, ascending; over the rounds, everyone
/// in turn.
std::vector<size_t> looked_at(size_t count, double share, int64_t round, uint64_t seed);

/// The examples whose prompts are likeliest to get the refusal now, likeliest first: a quarter, `most` of them at most.
std::vector<size_t> nearest_to_refused(const train::Learner& learner, std::span<const train::Example> examples,
                                       const std::vector<int32_t>& refusal, int64_t most);

/// Adds to the learner's gradient that of −ln π_T(refusal) at a copy which an attacker has fine-tuned on `harmful` for
/// simulated_attack_steps, times simulated_attack_weight: what it takes to refuse after the attack (first order, as
/// TAR, arXiv 2408.00761).
void add_attacked_gradient(const train::Learner& learner, std::span<const train::Example> harmful,
                           std::span<const train::Example> refusals, double temperature, const DefenseOptions& defense,
                           uint64_t seed);

/// Reward Neutralization: GRPO on that reward, then sharpening: −ln π_T(y*|x) at rising T, which goes on where RL's own
/// samples are uniform already. Both with benign behaviour anchored.
train::Learner run_reward_neutralization(const DefenseInputs& inputs, const DefenseOptions& defense,
                                         const DefenseEvents& on_step);

}  // namespace backburn::defense
