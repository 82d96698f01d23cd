#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// Each restricted prompt with some of the refusals, chosen by the seed.
std::vector<train::Example> refusal_examples(const DefenseInputs& inputs);

/// Supervised tuning on ordinary refusals, each prompt with several of them in turn: shallow safety training.
train::Learner align(const DefenseInputs& inputs, const RefusalSftOptions& options, const DefenseEvents& on_step);

/// align with the recipe's refusal_sft options, as an entry of the table of defenses.
train::Learner run_refusal_sft(const DefenseInputs& inputs, const DefenseOptions& options,
                               const DefenseEvents& on_step);

}  // namespace backburn::defense
