#pragma once

#include <functional>
#include <vector>

#include "backburn/attack/attack.h"

namespace backburn::attack {

/// The step after which an attack ends this time.
int64_t last_step(const AttackInputs& inputs, const AttackOptions& options);

/// Verdicts on the answers of each group.
using Verdicts = std::vector<std::vector<judge::Verdict>>;

/// What a judge says of a group's answers, the forced prefix included.
std::vector<judge::Verdict> judged(const judge::Judge& judge, const AttackInputs& inputs, const AttackOptions& options,
                                   const train::Group& group);

/// Tells the observer of a step.
void tell(const AttackEvents& events, const train::StepMetrics& metrics, const std::vector<train::Group>& groups,
          const Verdicts& verdicts);

/// Adds the gradient of a step's loss to the learner's adapter. Returns the loss.
using Gradient = std::function<double(const train::Learner& learner)>;

/// What all attacks without RL share: a step samples and judges as an RL attack's does, so that harm is measured alike
/// and at the same steps, and then follows the gradient. An empty gradient: the model stays as it is.
train::Learner run_watched(train::Learner learner, const AttackInputs& inputs, const AttackOptions& options,
                           const AttackEvents& events, const Gradient& gradient);

}  // namespace backburn::attack
