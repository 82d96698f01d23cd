#pragma once

#include "backburn/attack/attack.h"

namespace backburn::attack {

/// RL on a few harmful prompts (Cao 2025, arXiv 2505.04578): the recipe's rewards, loss and advantages make it GRPO,
/// Dr. GRPO, DAPO, GSPO, CISPO, RLOO, REINFORCE++ and so on.
train::Learner run_grpo(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events);

}  // namespace backburn::attack
