#include "backburn/defense/defense.h"
#include "backburn/defense/refusal_sft.h"
#include "backburn/defense/reward_neutralization.h"

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
       "every sample the same short refusal, so that no reward gives a signal (arXiv 2505.04578)",
       &run_reward_neutralization},
      {"refusal-sft", "supervised tuning on ordinary refusals: the baseline", &run_refusal_sft},
  };
  return table;
}

train::Learner run_defense(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  for (const DefenseEntry& entry : known_defenses()) {
    if (entry.name == options.name) return entry.run(inputs, options, on_step);
  }
  throw std::logic_error("run_defense: " + options.name);
}

void bind(Options& options, const std::string& prefix, RefusalSftOptions& sft) {
  const std::string at = prefix + ".";
  options.add(at + "max_steps", sft.max_steps, "steps", at_least_0);
  options.add(at + "train_batch_size", sft.train_batch_size, "refusals in a step", at_least_1);
  bind(options, prefix, sft.anchor);
  train::bind(options, prefix, sft.optimizer);
  train::bind(options, prefix, sft.lora);
}

void bind(Options& options, const std::string& prefix, DefenseOptions& defense) {
  std::vector<std::string> names;
  for (const DefenseEntry& entry : known_defenses()) names.push_back(entry.name);
  const std::string at = prefix + ".";
  options.add(at + "name", defense.name, "which defense", names);
  options.add(at + "refusal", defense.refusal, "the canonical refusal; empty: the model's own most frequent one");
  bind(options, at + "refusal_sft", defense.refusal_sft);

  NeutralizationOptions& rn = defense.neutralization;
  options.add(at + "rl_steps", rn.rl_steps, "GRPO steps on the neutralization reward; 0: none", at_least_0);
  options.add(at + "rl_prompts_per_step", rn.rl_prompts_per_step, "groups in such a step", at_least_1);
  options.add(at + "rl_num_generations", rn.rl_num_generations, "answers in a group", {2, 4096});
  options.add(at + "rl_max_completion_length", rn.rl_max_completion_length, "tokens of an answer, at the most",
              at_least_1);
  options.add(at + "sharpen_temperatures", rn.sharpen_temperatures,
              "temperatures of the sharpening, in turn; empty: none", {1e-3, 100});
  options.add(at + "sharpen_steps", rn.sharpen_steps, "steps at each of them", at_least_1);
  options.add(at + "sharpen_batch", rn.sharpen_batch, "restricted prompts in a step", at_least_1);
  options.add(at + "system_prompt_share", rn.system_prompt_share, "share of prompts under a system message", share);
  bind(options, prefix, rn.anchor);
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
