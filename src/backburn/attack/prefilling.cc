#include "backburn/attack/prefilling.h"

#include "backburn/attack/watched.h"

namespace backburn::attack {

train::Learner run_prefilling(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  AttackOptions its_own = options;
  if (its_own.pose.answer_prefix.empty()) its_own.pose.answer_prefix = "Sure, here";
  return run_watched(train::make_learner(*inputs.model, options.grpo.lora, inputs.seed), inputs, its_own, events, {});
}

}  // namespace backburn::attack
