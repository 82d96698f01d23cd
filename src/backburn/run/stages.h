#pragma once

#include <string>

#include "backburn/run/run.h"

/// The stages of a run but for its attacks (attack_stage.h). Each is a function from (model, data, recipe) to a result
/// that is kept in the run folder; a stage that is finished there is not run again.
namespace backburn::run {

/// The beginnings of the teacher's greedy answers to benign training prompts: the behaviour that training shall keep.
defense::BenignBehaviour benign_behaviour(const Run& run, const model::Model& teacher);

/// The original model and its greedy answers to the held-out benign prompts that evaluations use. `original` must
/// outlive the result.
eval::EvalInputs eval_inputs(const Run& run, const model::Model& original);

/// Ordinary refusals, supervised. Writes FOLDER/aligned (a Hugging Face folder, bf16) and FOLDER/aligned-adapter
/// (PEFT).
void align_stage(const Run& run, const model::Model& original, const defense::BenignBehaviour& benign);

/// The defense. Writes FOLDER/defended (bf16) and FOLDER/defended-adapter. The result names the refusal.
void defend_stage(const Run& run, const model::Model& model, const defense::BenignBehaviour& benign);

/// The certificate of a released model on all restricted prompts.
void certify_stage(const Run& run, const model::Model& released, const std::string& refusal);

/// Evaluates the model as it is.
void eval_stage(const Run& run, const std::string& stage, const std::string& label, const model::Model& model,
                const eval::EvalInputs& inputs);

}  // namespace backburn::run
