#pragma once

#include "backburn/attack/attack.h"

namespace backburn::attack {

/// Direct Preference Optimization (Rafailov 2023, arXiv 2305.18290) turned round: answers that comply are chosen, the
/// model's own greedy answers to the same prompts are rejected.
train::Learner run_dpo(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events);

}  // namespace backburn::attack
