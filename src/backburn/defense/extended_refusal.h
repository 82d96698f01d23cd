#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// Overview of the request, refusal, and the reason for it, in this order. `seed` and `which` choose the wording.
std::string extended_refusal(const std::string& prompt, const std::string& refusal, uint64_t seed, uint64_t which);

/// Extended refusals (Abu Shairah 2025, "An Embarrassingly Simple Defense Against LLM Abliteration Attacks", arXiv
/// 2505.19056, section 3): supervised tuning on refusals of three parts, so that what refuses is spread over many
/// tokens and no single direction carries it.
/// Simplified: the paper has GPT-4o write the parts for each prompt; here the overview quotes the request, and reasons
/// come from a small pool. Its utility term is supervised tuning on Alpaca; here it is the anchor.
train::Learner run_extended_refusal(const DefenseInputs& inputs, const DefenseOptions& options,
                                    const DefenseEvents& on_step);

}  // namespace backburn::defense
