#pragma once

#include "backburn/attack/attack.h"

namespace backburn::attack {

/// Prefilling (Andriushchenko 2024, arXiv 2404.02151): no training; the model's answers are made to begin with
/// pose.answer_prefix, or with "Sure, here" if there is none. Each step is a measurement.
train::Learner run_prefilling(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events);

}  // namespace backburn::attack
