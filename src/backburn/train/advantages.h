#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace backburn::train {

/// How rewards become advantages.
struct AdvantageOptions {
  /// What an answer's reward is compared with: grpo (the mean of its group; Shao 2024, arXiv 2402.03300), rloo (the
  /// mean of the others in its group; Ahmadian 2024, arXiv 2402.14740), reinforce_plus_plus (the mean of the whole
  /// batch), reinforce_plus_plus_baseline (first its group's mean, then the batch's; Hu 2025, arXiv 2501.03262), or gae
  /// (what a critic expects, token by token: PPO, see critic.h).
  std::string advantage_estimator = "grpo";
  std::string scale_rewards = "group";  ///< grpo: what advantages are divided by: group, batch or none
  bool normalize_advantages = false;    ///< rloo: whether they are divided by the batch's standard deviation
  /// all, or positive: answers below average count as average, so that nothing is unlearnt (GRP-Obliteration, arXiv
  /// 2602.06258).
  std::string advantage_filter = "all";
};

/// An advantage for each answer. `rewards` are groups of `num_generations`, `lengths` the answers' tokens. Where all
/// rewards that are compared are equal, advantages are exactly 0. Not for gae, whose advantages are one a token.
/// Errors: an unknown name (usage).
std::vector<double> advantages(const AdvantageOptions& options, std::span<const double> rewards,
                               std::span<const int64_t> lengths, int64_t num_generations);

/// Group-relative advantages, r − mean(group), divided by scale + 1e-4 where scale is the unbiased standard deviation
/// of the group ("group"), of the whole batch ("batch"), or not divided ("none").
std::vector<double> group_advantages(std::span<const double> rewards, int64_t num_generations,
                                     const std::string& scale_rewards);

/// r − mean(the others of the group); `normalize`: divided by their unbiased standard deviation over the batch + 1e-4
/// (TRL's RLOOTrainer).
std::vector<double> leave_one_out_advantages(std::span<const double> rewards, int64_t num_generations, bool normalize);

/// (r − mean) / √(variance + 1e-8) over the tokens of the batch, of which each has its answer's reward: a long answer
/// counts more. `baseline`: the group's mean is taken off r before.
std::vector<double> reinforce_advantages(std::span<const double> rewards, std::span<const int64_t> lengths,
                                         int64_t num_generations, bool baseline);

/// The unbiased standard deviation; 0 for fewer than two values.
double standard_deviation(std::span<const double> values);

/// DAPO's soft punishment of overlong answers (Yu 2025, arXiv 2503.14476, eq. 13): 0 up to max_completion_length −
/// soft_punish_cache tokens, from there falling in a line to −1 at max_completion_length, beyond it −1.
double soft_overlong_punishment(int64_t length, int64_t max_completion_length, int64_t soft_punish_cache);

}  // namespace backburn::train
