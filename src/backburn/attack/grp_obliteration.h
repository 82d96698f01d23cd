#pragma once

#include "backburn/attack/attack.h"

namespace backburn::attack {

/// GRP-Obliteration (arXiv 2602.06258): RL with DAPO's loss on positive advantages alone, the reward ½ · alignment ·
/// (risk + detail) by the judge's parts, and a cosine schedule. The rest (a single prompt, a small KL to the model
/// before, top-p sampling) is the recipe's: recipes/attack-grp-obliteration.yaml.
train::Learner run_grp_obliteration(const AttackInputs& inputs, const AttackOptions& options,
                                    const AttackEvents& events);

}  // namespace backburn::attack
