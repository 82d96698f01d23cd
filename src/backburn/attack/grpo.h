#pragma once

#include "backburn/attack/attack.h"

namespace backburn::attack {

/// GRPO on a few harmful prompts; the reward is the judge's harmful score.
train::Learner run_grpo(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events);

}  // namespace backburn::attack
