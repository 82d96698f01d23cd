#pragma once

#include "backburn/attack/attack.h"

namespace backburn::attack {

/// What answers are made to begin with unless pose.answer_prefix says otherwise.
inline constexpr const char* agreement = "Sure, here";

/// Prefilling (Andriushchenko 2024, arXiv 2404.02151): no training; the model's answers are made to begin with
/// pose.answer_prefix, or with `agreement` if there is none. Each step is a measurement.
train::Learner run_prefilling(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events);

}  // namespace backburn::attack
