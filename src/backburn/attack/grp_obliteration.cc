#include "backburn/attack/grp_obliteration.h"

#include "backburn/attack/grpo.h"

namespace backburn::attack {

train::Learner run_grp_obliteration(const AttackInputs& inputs, const AttackOptions& options,
                                    const AttackEvents& events) {
  AttackOptions its_own = options;
  its_own.reward.rewards = {"obliteration"};
  its_own.reward.reward_weights = {1};
  its_own.grpo.loss.loss_type = "dapo";
  its_own.grpo.advantage.advantage_estimator = "grpo";
  its_own.grpo.advantage.advantage_filter = "positive";
  its_own.grpo.optimizer.lr_scheduler_type = "cosine";
  return run_grpo(inputs, its_own, events);
}

}  // namespace backburn::attack
