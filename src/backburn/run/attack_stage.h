#pragma once

#include <string>
#include <vector>

#include "backburn/run/run.h"

namespace backburn::run {

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

/// attack_so_far to the end as a stage, which forgets the attacked weights.
void attack_stage(const Run& run, const AttackJob& job, const eval::EvalInputs& inputs);

/// What a forecast is checked against: an attack's lines in metrics.jsonl, and signal_bound of each of its prompts.
std::vector<defense::ObservedStep> observed_steps(const std::vector<Json>& steps, const std::vector<double>& signals);

}  // namespace backburn::run
