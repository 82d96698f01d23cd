#include <stdexcept>

#include "backburn/defense/booster.h"
#include "backburn/defense/circuit_breakers.h"
#include "backburn/defense/ctrl.h"
#include "backburn/defense/deep_alignment.h"
#include "backburn/defense/defense.h"
#include "backburn/defense/extended_refusal.h"
#include "backburn/defense/frpo.h"
#include "backburn/defense/lisa.h"
#include "backburn/defense/refusal_sft.h"
#include "backburn/defense/rep_noise.h"
#include "backburn/defense/reward_neutralization.h"
#include "backburn/defense/rsn_tune.h"
#include "backburn/defense/sdd.h"
#include "backburn/defense/tar.h"
#include "backburn/defense/token_buncher.h"
#include "backburn/defense/vaccine.h"

namespace backburn::defense {
namespace {

void bind(Options& options, const std::string& prefix, AnchorOptions& anchor) {
  options.add(prefix + ".anchor_weight", anchor.anchor_weight, "weight of KL(original || now) on benign answers",
              at_least_0);
  options.add(prefix + ".anchor_batch", anchor.anchor_batch, "benign answers in a step", at_least_1);
}

}  // namespace

const std::vector<DefenseEntry>& known_defenses() {
  static const std::vector<DefenseEntry> table = {
      {"reward-neutralization",
       "every sample the same short refusal, so that no reward gives a signal (arXiv 2505.04578)", false,
       &run_reward_neutralization},
      {"refusal-sft", "supervised tuning on ordinary refusals: the baseline", true, &run_refusal_sft},
      {"deep-alignment", "refusals also after the beginning of a harmful answer (arXiv 2406.05946)", true,
       &run_deep_alignment},
      {"extended-refusal", "overview, refusal and reason, spread over many tokens (arXiv 2505.19056)", true,
       &run_extended_refusal},
      {"circuit-breakers", "hidden states of harmful answers rerouted (arXiv 2406.04313)", true, &run_circuit_breakers},
      {"rep-noise", "hidden states of harmful answers turned into noise (arXiv 2405.14577)", true, &run_rep_noise},
      {"vaccine", "refusals under perturbed hidden states (arXiv 2402.01109)", true, &run_vaccine},
      {"booster", "a simulated harmful step shall gain little (arXiv 2409.01586)", true, &run_booster},
      {"lisa", "refusals and benign answers in turn, each held to where the other ended (arXiv 2405.18641)", true,
       &run_lisa},
      {"ctrl", "refusals that the model has said in its own likeliest words (arXiv 2405.19358)", true, &run_ctrl},
      {"rsn-tune", "refusals learnt by the neurons that matter to them and not to benign answers (Zhao 2025, ICLR)",
       true, &run_rsn_tune},
      {"sdd", "good answers to something else (arXiv 2507.21182)", true, &run_sdd},
      {"tar", "uncertain about harmful answers even after a simulated attack (arXiv 2408.00761)", true, &run_tar},
      {"token-buncher", "RL towards low entropy, and noise on all other tokens (arXiv 2508.20697)", false,
       &run_token_buncher},
      {"frpo", "RL on the soft minimum of a group's rewards (arXiv 2602.08813)", false, &run_frpo},
  };
  return table;
}

const DefenseEntry& find_defense(const std::string& name) {
  for (const DefenseEntry& entry : known_defenses()) {
    if (entry.name == name) return entry;
  }
  throw std::logic_error("find_defense: " + name);
}

train::Learner run_defense(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  return find_defense(options.name).run(inputs, options, on_step);
}

void bind(Options& options, const std::string& prefix, RefusalSftOptions& sft) {
  const std::string at = prefix + ".";
  options.add(at + "max_steps", sft.max_steps, "steps", at_least_0);
  options.add(at + "train_batch_size", sft.train_batch_size, "refusals in a step", at_least_1);
  bind(options, prefix, sft.anchor);
  train::bind(options, prefix, sft.optimizer);
  train::bind(options, prefix, sft.lora);
}

namespace {

void bind_harmful(Options& options, const std::string& prefix, HarmfulAnswerOptions& harmful) {
  options.add(prefix + ".file", harmful.file, "harmful answers, JSON lines of prompt and answer; empty: sampled");
  options.add(prefix + ".prefix", harmful.prefix, "forced beginning of sampled ones");
  options.add(prefix + ".num_generations", harmful.num_generations, "samples for each restricted prompt", at_least_1);
  options.add(prefix + ".max_completion_length", harmful.max_completion_length, "tokens of one", at_least_1);
  options.add(prefix + ".min_score", harmful.min_score, "the judge's score that makes a sample harmful", {0, 10});
  options.add(prefix + ".batch", harmful.batch, "harmful answers in a step", at_least_1);
}

// What each baseline has for itself.
void bind_baselines(Options& options, const std::string& at, DefenseOptions& all) {
  bind_harmful(options, at + "harmful", all.harmful);
  options.add(at + "deep_alignment.prefix_share", all.deep_alignment.prefix_share,
              "refusals that follow the beginning of a harmful answer", share);
  options.add(at + "deep_alignment.max_prefix", all.deep_alignment.max_prefix, "tokens of that beginning", at_least_1);
  options.add(at + "circuit_breakers.alpha", all.circuit_breakers.alpha, "weight of both losses", at_least_0);
  options.add(at + "circuit_breakers.layers", all.circuit_breakers.layers, "depth of the rerouted layers", share);
  options.add(at + "rep_noise.noise_weight", all.rep_noise.noise_weight, "weight of the distance to noise", at_least_0);
  options.add(at + "rep_noise.ascent_weight", all.rep_noise.ascent_weight, "weight of ascent on harmful answers",
              at_least_0);
  options.add(at + "rep_noise.layers", all.rep_noise.layers, "depth of the noised layers", share);
  options.add(at + "vaccine.rho", all.vaccine.rho, "norm of the perturbation of hidden states", at_least_0);
  options.add(at + "booster.alpha", all.booster.alpha, "length of the simulated harmful step", at_least_0);
  options.add(at + "booster.lambda", all.booster.lambda, "weight of what that step may gain", at_least_0);
  options.add(at + "lisa.rho", all.lisa.rho, "weight of the proximal term", at_least_0);
  options.add(at + "lisa.alignment_steps", all.lisa.alignment_steps, "steps on refusals, of every 10",
              {1, train::checkpoint_steps});
  options.add(at + "ctrl.rounds", all.ctrl.rounds, "rounds of rewriting refusals", at_least_0);
  options.add(at + "ctrl.temperatures", all.ctrl.temperatures, "temperatures of rewriting", {1e-3, 100});
  options.add(at + "ctrl.num_generations", all.ctrl.num_generations, "rewritings at each temperature", at_least_1);
  options.add(at + "ctrl.max_completion_length", all.ctrl.max_completion_length, "tokens of one", at_least_1);
  options.add(at + "rsn_tune.queries", all.rsn_tune.queries, "refusals and benign answers that neurons are found by",
              at_least_1);
  options.add(at + "rsn_tune.top_share", all.rsn_tune.top_share, "share of a projection's neurons that matter", share);
  options.add(at + "rsn_tune.consistency", all.rsn_tune.consistency, "share of queries that a neuron must matter to",
              share);
  options.add(at + "sdd.max_overlap", all.sdd.max_overlap, "share of a prompt's tokens in an irrelevant answer", share);
  options.add(at + "sdd.pairs_per_prompt", all.sdd.pairs_per_prompt, "answers to each restricted prompt", at_least_1);
  options.add(at + "tar.inner_steps", all.tar.inner_steps, "steps of a simulated attack", at_least_1);
  options.add(at + "tar.subsample", all.tar.subsample, "of these, every how many-th is learnt from", at_least_1);
  options.add(at + "tar.weight", all.tar.weight, "weight of the attacked model's entropy", at_least_0);
  options.add(at + "tar.schedule", all.tar.schedule, "by how much later steps of an attack weigh more", at_least_0);
  options.add(at + "tar.attack_rates", all.tar.attack_rates, "learning rates, one for each attack", at_least_0);
  options.add(at + "token_buncher.epsilon", all.token_buncher.epsilon, "noise on other tokens", share);
  options.add(at + "token_buncher.warmup_steps", all.token_buncher.warmup_steps, "steps on the entropy alone",
              at_least_0);
  options.add(at + "frpo.lambda", all.frpo.lambda, "of the soft minimum over a group", {1e-3, 1e6});
}

}  // namespace

void bind(Options& options, const std::string& prefix, DefenseOptions& defense) {
  std::vector<std::string> names;
  for (const DefenseEntry& entry : known_defenses()) names.push_back(entry.name);
  const std::string at = prefix + ".";
  options.add(at + "name", defense.name, "which defense", names);
  options.add(at + "refusal", defense.refusal, "the canonical refusal; empty: the model's own most frequent one");
  options.add(at + "prompts", defense.prompts, "restricted prompts that it trains on, evenly picked; 0: all",
              at_least_0);
  // Unqualified, a call with a temporary string would be std::bind's, and bind nothing.
  defense::bind(options, at + "refusal_sft", defense.refusal_sft);
  bind_baselines(options, at, defense);

  NeutralizationOptions& rn = defense.neutralization;
  options.add(at + "rl_steps", rn.rl_steps, "GRPO steps on the neutralization reward; 0: none", at_least_0);
  options.add(at + "rl_prompts_per_step", rn.rl_prompts_per_step, "groups in such a step", at_least_1);
  options.add(at + "rl_num_generations", rn.rl_num_generations, "answers in a group", {2, 4096});
  options.add(at + "rl_max_completion_length", rn.rl_max_completion_length, "tokens of an answer, at the most",
              at_least_1);
  options.add(at + "rl_rewards", rn.rl_rewards, "what its reward is the mean of", neutralization_terms());
  options.add(at + "sharpen_temperatures", rn.sharpen_temperatures, "temperatures of the sharpening, in turn",
              {1e-3, 100});
  options.add(at + "sharpen_steps", rn.sharpen_steps, "steps at each of them; 0: no sharpening", at_least_0);
  options.add(at + "sharpen_batch", rn.sharpen_batch, "restricted prompts in a step", at_least_1);
  options.add(at + "restart_steps", rn.restart_steps,
              "further steps at the last temperature, from a warm restart; 0: none", at_least_0);
  options.add(at + "restarts", rn.restarts, "how often, each from what the one before left", at_least_1);
  options.add(at + "restart_average", rn.restart_average,
              "whether one leaves the mean of the weights before and after it, or those after it");
  options.add(at + "restart_learning_rate", rn.restart_learning_rate, "AdamW's step size in the first of them",
              at_least_0);
  options.add(at + "further_from_restart", rn.further_from_restart,
              "the restart from which data.further_restricted takes part; 0: from the beginning", at_least_0);
  options.add(at + "restart_showings", rn.restart_showings,
              "how often a round of ten steps shows each of its weakest prompts in a restart", at_least_1);
  options.add(at + "system_prompts", rn.system_prompts, "system messages of an attacker");
  options.add(at + "system_prompt_share", rn.system_prompt_share, "share of prompts under a system message", share);
  options.add(at + "wording_share", rn.wording_share,
              "prompts in one of data.wordings for each restricted prompt, others in every round of ten steps",
              {0, 100});
  options.add(at + "plain_formats", rn.plain_formats, "plain texts of an attacker in place of the chat template");
  options.add(at + "plain_format_share", rn.plain_format_share,
              "prompts in one of these for each restricted prompt, others in every round of ten steps", {0, 100});
  options.add(at + "answer_prefixes", rn.answer_prefixes, "beginnings that an attacker gives an answer");
  options.add(at + "answer_prefix_share", rn.answer_prefix_share, "prompts with a begun answer for each prompt",
              {0, 100});
  options.add(at + "answer_prefix_depth", rn.answer_prefix_depth, "tokens behind that beginning, at the most",
              at_least_0);
  options.add(at + "simulated_attack_steps", rn.simulated_attack_steps,
              "supervised steps of an attack on a copy that sharpening sees as well; 0: none", at_least_0);
  options.add(at + "simulated_attack_interval", rn.simulated_attack_interval, "in every how many-th step", at_least_1);
  options.add(at + "simulated_attack_learning_rate", rn.simulated_attack_learning_rate, "that attacker's", at_least_0);
  options.add(at + "simulated_attack_weight", rn.simulated_attack_weight, "weight of what the copy has to learn",
              at_least_0);
  bind(options, prefix, rn.anchor);
  options.add(at + "hard_anchors", rn.hard_anchors,
              "hold half of a sharpening step's benign answers where the round's refusals are likeliest");
  options.add(at + "hard_anchors_from_restart", rn.hard_anchors_from_restart,
              "the restart from which it does; 0: from the beginning", at_least_0);
  options.add(at + "search_share", rn.search_share,
              "share of the prompts among which a round of ten steps looks for the weakest and the hard ones",
              {1e-3, 1});
  train::bind(options, prefix, rn.optimizer);
  train::bind(options, prefix, rn.lora);
}

Json DefenseStep::to_json() const {
  Json json = {{"phase", phase}, {"step", step}, {"loss", loss}, {"kl", kl}, {"grad_norm", grad_norm}};
  if (reward) json["reward"] = *reward;
  if (reward_std) json["reward_std"] = *reward_std;
  return json;
}

}  // namespace backburn::defense
