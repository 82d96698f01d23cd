#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backburn/judge/rubric.h"
#include "backburn/train/grpo.h"

namespace backburn::attack {

/// What an attacker rewards: the weighted sum of named rewards (TRL's reward_funcs and reward_weights).
struct RewardOptions {
  std::vector<std::string> rewards = {"harm"};  ///< see known_rewards
  std::vector<double> reward_weights = {1};     ///< one each, or one for all
  int64_t soft_punish_cache = 16;               ///< soft_overlong_punishment: the last tokens that it punishes
};

/// What a reward looks at: a sampled group, and what the judge says of its answers.
struct Scored {
  const train::Group& group;
  std::span<const judge::Verdict> verdicts;
  int64_t max_completion_length = 0;
  int64_t soft_punish_cache = 0;
};

struct RewardEntry {
  std::string name, summary;
  double (*reward)(const Scored& scored, size_t answer);
};

/// The one table of rewards.
const std::vector<RewardEntry>& known_rewards();

/// One reward an answer. Errors: an unknown name, weights that don't fit (usage).
std::vector<double> weighted_rewards(const RewardOptions& options, const Scored& scored);

}  // namespace backburn::attack
