#pragma once

#include <string>
#include <vector>

#include "backburn/run/run.h"

/// What a model shows to whoever only asks it: the refusal that it gives by itself, and the prompts that an attacker
/// starts from.
namespace backburn::run {

/// Of answers sampled as the recipe's attack samples them, but as long as evaluation's: some begin with a refusal and
/// comply later.
eval::EvalOptions attack_sampling(const Run& run, int64_t num_generations);

/// The canonical refusal: the recipe's, or the model's own most frequent one on restricted training prompts, short ones
/// first among equals.
std::string choose_refusal(const Run& run, const model::Model& model);

/// Restricted prompts of that split (AttackOptions::split) that the model refuses, greedily and mostly when sampled, of
/// different activities: what an attacker starts from, since prompts that are answered anyway show nothing. Or those
/// that it answers with the most harm when sampled (AttackOptions::prompt_choice).
std::vector<text::Prompt> choose_attack_prompts(const Run& run, const model::Model& model, const std::string& split);

/// The same as a stage: chosen once, then kept in the run folder.
std::vector<text::Prompt> attack_prompts(const Run& run, const model::Model& model, const std::string& split);

/// The recipe's number of attack prompts: the first of `prompts`, or all of them and then others of the recipe's split,
/// of other groups, in the order of their file, as far as there are any.
std::vector<text::Prompt> as_many_prompts(const Run& run, std::vector<text::Prompt> prompts);

}  // namespace backburn::run
