#include "backburn/attack/attack.h"
#include "backburn/attack/grpo.h"
#include "backburn/base/error.h"

namespace backburn::attack {

const std::vector<AttackEntry>& known_attacks() {
  static const std::vector<AttackEntry> table = {
      {"grpo", "malicious GRPO: the judge's harmful score is the reward (Cao 2025, arXiv 2505.04578)", &run_grpo},
  };
  return table;
}

train::Learner run_attack(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  for (const AttackEntry& entry : known_attacks()) {
    if (entry.name == options.name) return entry.run(inputs, options, events);
  }
  throw std::logic_error("run_attack: " + options.name);
}

void bind(Options& options, const std::string& prefix, AttackOptions& attack) {
  std::vector<std::string> names;
  for (const AttackEntry& entry : known_attacks()) names.push_back(entry.name);
  const std::string at = prefix + ".";
  options.add(at + "name", attack.name, "which attack", names);
  options.add(at + "prompts", attack.prompts, "harmful prompts that the attacker trains on", at_least_1);
  options.add(at + "collapse_harm", attack.collapse_harm, "mean harmful score that counts as a fall", {0, 10});
  train::bind(options, prefix, attack.grpo);
}

Json AttackStep::to_json() const {
  Json json = metrics.to_json();
  json["harm"] = harm;
  json["groups"] = groups;
  json["differential_groups"] = differential_groups;
  return json;
}

}  // namespace backburn::attack
