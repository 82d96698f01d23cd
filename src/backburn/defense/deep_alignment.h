#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// A prompt whose answer has begun with the first `length` tokens of a harmful one; what follows is a refusal.
train::Example recovery(const train::Example& harmful, size_t length, std::vector<int32_t> refusal);

/// Deep safety alignment by data augmentation (Qi 2024, "Safety Alignment Should Be Made More Than Just a Few Tokens
/// Deep", arXiv 2406.05946, section 3.1, equation 3): of a triple (x, harmful h, refusal r), −ln π(r | x, h_≤k) is
/// lowered, with k = 0 at chance 1 − p and k uniform in 1 … C otherwise, beside a utility term.
/// Simplified: the utility term is the anchor's KL to the original model on its own benign answers, where the paper
/// takes cross-entropy on such answers with weight 1 − α against α = 0.2 (here: anchor_weight); h is cut to
/// harmful.max_completion_length; an adapter is trained, not all weights.
train::Learner run_deep_alignment(const DefenseInputs& inputs, const DefenseOptions& options,
                                  const DefenseEvents& on_step);

}  // namespace backburn::defense
