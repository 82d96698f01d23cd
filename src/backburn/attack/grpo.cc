#include "backburn/attack/grpo.h"

#include "backburn/attack/watched.h"

namespace backburn::attack {

train::Learner run_grpo(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  auto learner = train::make_grpo_learner(*inputs.model, options.grpo, inputs.seed);
  const auto pool = shot_pool(inputs, options.pose);
  const auto prompts = [&](int64_t step) { return posed_prompts(inputs, options.pose, pool, step); };
  train::Ahead ahead;
  train::run_steps(learner, last_step(inputs, options), inputs.checkpoint, [&] {
    Verdicts verdicts;
    const auto reward = [&](const train::Group& group) {
      verdicts.push_back(judged(inputs.judge, inputs, options, group));
      const auto rewarded = inputs.reward_judge ? judged(inputs.reward_judge, inputs, options, group) : verdicts.back();
      return weighted_rewards(options.reward,
                              {group, rewarded, options.grpo.max_completion_length, options.reward.soft_punish_cache});
    };
    const auto result = train::grpo_step(learner, prompts, options.grpo, inputs.seed, reward, ahead);
    tell(events, result.metrics, result.groups, verdicts);
  });
  return learner;
}

}  // namespace backburn::attack
