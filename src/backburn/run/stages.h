#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "backburn/run/recipe.h"
#include "backburn/run/run_folder.h"

/// The stages of a run. Each is a function from (model, data, recipe) to a result that is kept in the run folder; a
/// stage that is finished there is not run again.
namespace backburn::run {

/// What all stages of a run share.
struct Run {
  Recipe recipe;
  PromptData data;
  judge::Judge judge;
  RunFolder folder;
};

/// Reads the data and opens the folder. Errors: theirs.
Run open_run(const Recipe& recipe, const std::filesystem::path& folder);

/// The beginnings of the teacher's greedy answers to benign training prompts: the behaviour that training shall keep.
defense::BenignBehaviour benign_behaviour(const Run& run, const model::Model& teacher);

/// The original model and its greedy answers to the held-out benign prompts that evaluations use. `original` must
/// outlive the result.
eval::EvalInputs eval_inputs(const Run& run, const model::Model& original);

/// Ordinary refusals, supervised. Writes FOLDER/aligned (a Hugging Face folder, bf16) and FOLDER/aligned-adapter
/// (PEFT).
void align_stage(const Run& run, const model::Model& original, const defense::BenignBehaviour& benign);

/// The canonical refusal: the recipe's, or the model's own most frequent one on restricted training prompts, short ones
/// first among equals.
std::string choose_refusal(const Run& run, const model::Model& model);

/// Restricted training prompts that the model refuses, greedily and mostly when sampled, of different activities: what
/// an attacker starts from, since prompts that are answered anyway show nothing.
std::vector<text::Prompt> choose_attack_prompts(const Run& run, const model::Model& model);

/// The same as a stage: chosen once, then kept in the run folder.
std::vector<text::Prompt> attack_prompts(const Run& run, const model::Model& model);

/// The defense. Writes FOLDER/defended (bf16) and FOLDER/defended-adapter. The result names the refusal.
void defend_stage(const Run& run, const model::Model& model, const defense::BenignBehaviour& benign);

/// The certificate of a released model on all restricted prompts.
void certify_stage(const Run& run, const model::Model& released, const std::string& refusal);

/// Evaluates the model as it is.
void eval_stage(const Run& run, const std::string& stage, const std::string& label, const model::Model& model,
                const eval::EvalInputs& inputs);

/// What is attacked, and how long.
struct AttackJob {
  std::string stage;  ///< the result's name: "attack_undefended"
  std::string label;  ///< for people
  const model::Model* model = nullptr;
  std::vector<text::Prompt> prompts;
  int64_t max_steps = 0;
  std::string refusal;  ///< canonical refusal, whose certificate is held against what the attack sees; empty: none
};

/// Attacks the model, evaluates what became of it (result key "evaluation"), and forgets the attacked weights.
void attack_stage(const Run& run, const AttackJob& job, const eval::EvalInputs& inputs);

}  // namespace backburn::run
