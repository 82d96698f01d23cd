#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// The share of a text's distinct tokens that an answer has too; 0 for an empty text.
double token_overlap(std::span<const int32_t> text, std::span<const int32_t> answer);

/// Each restricted prompt with pairs_per_prompt benign answers to other questions, drawn by the seed: the first drawn
/// whose overlap with the prompt is at most max_overlap; where none of a number of draws is, the one that overlaps
/// least. Errors: no benign answers.
std::vector<train::Example> irrelevant_examples(const DefenseInputs& inputs, const SddOptions& options);

/// SDD, self-degraded defense (Chen 2025, arXiv 2507.21182): supervised tuning of harmful prompts on
/// good answers to something else, so that whoever lowers the likelihood of these answers to get harmful ones unlearns
/// good answers as well.
/// Simplified: the answers are the model's own to benign prompts (data.anchor_answer_length long), where the paper
/// takes Alpaca's and LIMA's; "irrelevant" is few words in common, where the paper has a sentence encoder's cosine; the
/// anchor stands beside it (the paper has no utility term). The paper's variant that opens with a refusal is left out:
/// these answers are no refusals, and refusal rates and the certificate say nothing about them.
train::Learner run_sdd(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step);

}  // namespace backburn::defense
