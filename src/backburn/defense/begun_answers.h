#pragma once

#include <cstdint>
#include <vector>

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// A restricted prompt as an attacker puts it to the model.
struct PosedPrompt {
  size_t restricted = 0;     ///< which of the inputs'
  std::vector<int32_t> ids;  ///< the prompt, and what its answer was made to begin with
};

/// Restricted prompts whose answers have begun already: one of options.answer_prefixes and 0 … answer_prefix_depth
/// tokens with which the model, sampled at T = 1, went on from it. A refusal that is only learnt as an answer's
/// beginning is a few tokens deep (Qi 2024, arXiv 2406.05946): an attacker who writes these tokens is past it.
/// Of every prompt answer_prefix_share such: 1.5 is one, and with every other prompt a second. Same seed, same prompts.
std::vector<PosedPrompt> begun_prompts(const DefenseInputs& inputs, const NeutralizationOptions& options);

}  // namespace backburn::defense
