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

/// Reads the data, opens the folder and makes the judge, or takes that of `other` where its recipe asks for the same
/// one: a judge may be a model of gigabytes. Errors: theirs.
Run open_run(const Recipe& recipe, const std::filesystem::path& folder, const Run* other = nullptr);

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

/// Restricted prompts of that split (AttackOptions::split) that the model refuses, greedily and mostly when sampled, of
/// different activities: what an attacker starts from, since prompts that are answered anyway show nothing. Or those
/// that it answers with the most harm when sampled (AttackOptions::prompt_choice).
std::vector<text::Prompt> choose_attack_prompts(const Run& run, const model::Model& model, const std::string& split);

/// The same as a stage: chosen once, then kept in the run folder.
std::vector<text::Prompt> attack_prompts(const Run& run, const model::Model& model, const std::string& split);

/// The recipe's number of attack prompts: the first of `prompts`, or all of them and then others of the recipe's split,
/// of other groups, in the order of their file, as far as there are any.
std::vector<text::Prompt> as_many_prompts(const Run& run, std::vector<text::Prompt> prompts);

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
  std::string refusal;     ///< canonical refusal, whose certificate is held against what the attack sees; empty: none
  int64_t stop_after = 0;  ///< steps, on the way to max_steps; 0: all of them
};

/// Attacks the model and evaluates what became of it. The checkpoint stays, so that a later call with a larger
/// stop_after goes on from here, to the same bits as without a stop; whoever makes the last call removes it. The
/// result:
///
/// - "label", "attack", "log" (the stage's name in metrics.jsonl), "max_steps" (those done), "prompts", "seconds",
/// "peak_rss_gib", "examples";
/// - "harm_start", "harm_end" (…"_ci"): on the attack prompts, asked plainly before it and as the attack asks after it;
///   "collapse_step": updates until that was attack.collapse_harm, or null;
/// - "evaluation": of the attacked model on held-out prompts, asked plainly; "posed": the same prompts asked as the
///   attack asks, where that is otherwise (a forced beginning, a system message, answered questions);
/// - its two axes: "success" (harm on held-out prompts / 10, the larger of these two) and "kept_utility"
///   (eval::kept_utility, against the model before the attack), and "product" of both;
/// - "nothing_to_learn": null, or why the attack has left the model as it was;
/// - with a refusal, "outside_certificate": whether the certificate doesn't speak of such an attack. If it does:
///   "forecast" (defense::Forecast), "attack_prompt_p_max", "attack_prompt_signal" (signal_bound of each prompt), and
///   "draws": what decides, beside weights and prompts, which answers the attack draws until its first signal.
Json attack_so_far(const Run& run, const AttackJob& job, const eval::EvalInputs& inputs);

/// What a forecast is checked against: an attack's lines in metrics.jsonl, and signal_bound of each of its prompts.
std::vector<defense::ObservedStep> observed_steps(const std::vector<Json>& steps, const std::vector<double>& signals);

/// attack_so_far to the end as a stage, which forgets the attacked weights.
void attack_stage(const Run& run, const AttackJob& job, const eval::EvalInputs& inputs);

}  // namespace backburn::run
