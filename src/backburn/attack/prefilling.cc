#include "backburn/attack/prefilling.h"

#include "backburn/attack/watched.h"

namespace backburn::attack {

train::Learner run_prefilling(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  AttackOptions its_own = options;
  its_own.pose = pose_of(options);
  return run_watched(train::make_learner(*inputs.model, options.grpo.lora, inputs.seed), inputs, its_own, events, {});
}

}  // namespace backburn::attack
