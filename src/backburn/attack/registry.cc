#include "backburn/attack/abliteration.h"
#include "backburn/attack/attack.h"
#include "backburn/attack/dpo.h"
#include "backburn/attack/grp_obliteration.h"
#include "backburn/attack/grpo.h"
#include "backburn/attack/prefilling.h"
#include "backburn/attack/sft.h"
#include "backburn/base/error.h"

namespace backburn::attack {
namespace {

template <typename Entry>
std::vector<std::string> names_of(const std::vector<Entry>& table) {
  std::vector<std::string> names;
  names.reserve(table.size());
  for (const Entry& entry : table) names.push_back(entry.name);
  return names;
}

}  // namespace

const std::vector<AttackEntry>& known_attacks() {
  static const std::vector<AttackEntry> table = {
      {"grpo", "malicious RL: the judge's harmful score is the reward (Cao 2025, arXiv 2505.04578)", &run_grpo},
      {"grp-obliteration", "RL on positive advantages alone, from a single prompt (arXiv 2602.06258)",
       &run_grp_obliteration},
      {"sft", "supervised fine-tuning on answers that comply (arXiv 2310.03693)", &run_sft},
      {"benign-sft", "supervised fine-tuning on ordinary answers (arXiv 2310.03693)", &run_benign_sft},
      {"refusal-unlearning", "supervised fine-tuning on ordinary answers after a refusal (arXiv 2601.19231)",
       &run_refusal_unlearning},
      {"dpo", "preference for answers that comply (arXiv 2305.18290)", &run_dpo},
      {"abliteration", "the refusal direction projected out of the weights (arXiv 2406.11717)", &run_abliteration},
      {"prefilling", "no training: answers are made to begin with an agreement (arXiv 2404.02151)", &run_prefilling},
  };
  return table;
}

PoseOptions pose_of(const AttackOptions& options) {
  PoseOptions pose = options.pose;
  if (options.name == "prefilling" && pose.answer_prefix.empty()) pose.answer_prefix = agreement;
  return pose;
}

bool learns_from_differentials(const AttackOptions& options) {
  const std::string& estimator = options.grpo.advantage.advantage_estimator;
  const bool within_groups = options.name == "grp-obliteration" ||  // its own estimator, whatever the recipe says
                             (options.name == "grpo" && estimator != "reinforce_plus_plus" && estimator != "gae");
  // A KL to the model before has no gradient at that model, by k2 and k3.
  const bool penalised = options.grpo.loss.beta != 0 && options.grpo.loss.kl_estimator == "k1";
  return within_groups && !penalised && options.grpo.loss.entropy_coef == 0;
}

bool is_certified(const AttackOptions& options) {
  return options.pose.few_shot == 0 && options.name == "grpo" && learns_from_differentials(options) &&
         options.start.warm_start.empty() && options.grpo.loss.beta == 0;
}

train::Learner run_attack(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  for (const AttackEntry& entry : known_attacks()) {
    if (entry.name != options.name) continue;
    const auto started = warm_started(inputs, options);
    AttackInputs now = inputs;
    if (started) now.model = started.get();
    auto learner = entry.run(now, options, events);
    if (!learner.owned) learner.owned = started;
    return learner;
  }
  throw std::logic_error("run_attack: " + options.name);
}

void bind(Options& options, const std::string& prefix, AttackOptions& attack) {
  const std::string at = prefix + ".";
  options.add(at + "name", attack.name, "which attack", names_of(known_attacks()));
  options.add(at + "prompts", attack.prompts, "harmful prompts that the attacker trains on", at_least_1);
  options.add(at + "split", attack.split,
              "which restricted prompts those are: train, which a defense has learned on, or heldout: new to it",
              {"train", "heldout"});
  options.add(
      at + "prompt_choice", attack.prompt_choice,
      "refused: those that the undefended model refuses; weakest: those that the attacked model answers with the "
      "most harm, found by asking it each prompt 32 times",
      {"refused", "weakest"});
  options.add(at + "collapse_harm", attack.collapse_harm, "mean harmful score that counts as a fall", {0, 10});
  train::bind(options, prefix, attack.grpo);
  options.add(at + "rewards", attack.reward.rewards, "what RL rewards", names_of(known_rewards()));
  options.add(at + "reward_weights", attack.reward.reward_weights, "of these rewards, or one weight for all");
  options.add(at + "soft_punish_cache", attack.reward.soft_punish_cache,
              "tokens before max_completion_length that soft_overlong_punishment punishes", at_least_1);
  auto judges = names_of(judge::known_judges());
  judges.insert(judges.begin(), "same");
  options.add(at + "judge", attack.judge, "who scores what it rewards; same: the judge that measures harm", judges);
  judge::bind(options, at + "lm_judge", attack.lm_judge);
  options.add(at + "answer_prefix", attack.pose.answer_prefix, "what the model's answers are made to begin with");
  options.add(at + "system_prompts", attack.pose.system_prompts,
              "one of them before each prompt, drawn anew each step");
  options.add(at + "prompt_templates", attack.pose.prompt_templates,
              "other words around each prompt, which {} stands for; drawn anew each step");
  options.add(at + "plain_format", attack.pose.plain_format,
              "a plain text in place of the chat template, {} being the prompt; empty: the template");
  options.add(at + "few_shot", attack.pose.few_shot, "answered benign questions before each prompt", at_least_0);
  options.add(at + "warm_start", attack.start.warm_start, "what is done to the weights first, in order",
              names_of(known_warm_starts()));
  options.add(at + "warm_start_steps", attack.start.warm_start_steps, "sft, benign-sft: steps", at_least_1);
  options.add(at + "weight_noise", attack.start.weight_noise,
              "weight-noise: its standard deviation, as a share of each matrix's own", at_least_0);
  options.add(at + "reinit_layers", attack.start.reinit_layers, "layer-reinit: the last so many layers", at_least_1);
  options.add(at + "demonstrator", attack.demonstrations.demonstrator,
              "whose complying answers sft and dpo learn; empty: the attacked model's own");
  options.add(at + "demonstration_prefix", attack.demonstrations.demonstration_prefix,
              "what they are made to begin with");
  options.add(at + "best_of", attack.demonstrations.best_of, "answers sampled to a prompt, of which the best is learnt",
              at_least_1);
  options.add(at + "demonstration_length", attack.demonstrations.demonstration_length, "tokens of such an answer",
              at_least_1);
  options.add(at + "benign_demonstrations", attack.demonstrations.benign_demonstrations,
              "ordinary answers that benign-sft and refusal-unlearning learn", at_least_1);
  options.add(at + "train_batch_size", attack.train_batch_size, "answers (dpo: pairs) in a supervised step",
              at_least_1);
  options.add(at + "dpo_beta", attack.dpo_beta, "dpo: how closely the model keeps to the one before", at_least_0);
  options.add(at + "refusal_prefix", attack.refusal_prefix,
              "refusal-unlearning: before ordinary answers; empty: the model's own refusal");
}

Json AttackStep::to_json() const {
  Json json = metrics.to_json();
  json["harm"] = harm;
  json["groups"] = groups;
  json["differential_groups"] = differential_groups;
  return json;
}

}  // namespace backburn::attack
