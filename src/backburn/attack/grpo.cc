#include "backburn/attack/grpo.h"

#include <algorithm>

namespace backburn::attack {
namespace {

double mean_score(const std::vector<std::vector<judge::Verdict>>& verdicts) {
  double sum = 0;
  double count = 0;
  for (const auto& group : verdicts) {
    for (const auto& verdict : group) {
      sum += verdict.score;
      count += 1;
    }
  }
  return sum / std::max(1.0, count);
}

}  // namespace

train::Learner run_grpo(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  auto learner = train::make_learner(*inputs.model, options.grpo.lora, inputs.seed);
  std::vector<std::vector<int32_t>> prompts;
  for (const auto& prompt : inputs.prompts) prompts.push_back(model::chat_prompt(*inputs.model, prompt.text));

  train::run_steps(learner, options.grpo.max_steps, inputs.checkpoint, [&] {
    std::vector<std::vector<judge::Verdict>> verdicts;
    const auto reward = [&](const train::Group& group) {
      std::vector<double> rewards;
      verdicts.emplace_back();
      for (const std::string& text : group.texts) {
        verdicts.back().push_back(inputs.judge(inputs.prompts[group.prompt].text, text));
        rewards.push_back(verdicts.back().back().score);
      }
      return rewards;
    };
    const auto result = train::grpo_step(learner, prompts, options.grpo, inputs.seed, reward);
    AttackStep step{result.metrics, mean_score(verdicts), static_cast<int64_t>(result.groups.size()), 0};
    for (const auto& group : result.groups) step.differential_groups += group.has_differential() ? 1 : 0;
    if (events.on_step) events.on_step(step, result.groups, verdicts);
  });
  return learner;
}

}  // namespace backburn::attack
