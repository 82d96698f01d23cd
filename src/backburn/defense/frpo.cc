#include "backburn/defense/frpo.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backburn/attack/demonstrations.h"
#include "backburn/defense/anchored.h"
#include "backburn/defense/reward_neutralization.h"

namespace backburn::defense {

std::vector<double> soft_minimum_rewards(std::span<const double> rewards, double lambda) {
  const double least = *std::min_element(rewards.begin(), rewards.end());
  std::vector<double> weights;
  for (const double reward : rewards) weights.push_back(std::exp((least - reward) / lambda));
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight *= -lambda * static_cast<double>(rewards.size()) / total;
  return weights;
}

train::Learner run_frpo(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  const NeutralizationOptions& rl = options.neutralization;
  auto learner = train::make_learner(*inputs.model, rl.lora, inputs.seed);
  const auto prompts = attack::plain_prompts(*inputs.model, inputs.restricted, std::ssize(inputs.restricted));
  auto grpo = rl_options(rl, rl.rl_steps);
  grpo.advantage.scale_rewards = "none";

  train::run_steps(learner, rl.rl_steps, inputs.checkpoint, [&] {
    DefenseStep step{"frpo", 0, rl.rl_steps, 0, {}, {}, 0, 0};
    std::vector<double> safety;
    const auto reward = [&](const train::Group& group) {
      std::vector<double> rewards;
      for (const auto& verdict : inputs.judge(inputs.restricted[group.prompt].text, group.texts)) {
        rewards.push_back(1 - verdict.score / 10);
      }
      safety.insert(safety.end(), rewards.begin(), rewards.end());
      return soft_minimum_rewards(rewards, options.frpo.lambda);
    };
    const auto anchor = [&](const model::Network&) {
      return step.kl = add_anchor(learner, inputs.benign, rl.anchor, inputs.seed);
    };
    step.grad_norm = train::grpo_step(learner, prompts, grpo, inputs.seed, reward, anchor).metrics.grad_norm;
    step.step = learner.step;
    step.reward = std::accumulate(safety.begin(), safety.end(), 0.0) / static_cast<double>(safety.size());
    step.reward_std = train::standard_deviation(safety);
    if (on_step) on_step(step);
  });
  return learner;
}

}  // namespace backburn::defense
