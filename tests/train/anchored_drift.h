#pragma once

#include <vector>

#include "backburn/train/learner.h"
#include "backburn/train/supervised.h"

namespace backburn::train {

/// How far 30 supervised steps drive a fresh learner from what the model itself would say, with an anchor of that
/// weight on it: KL in nats.
inline double anchored_drift(const model::Model& model, const LoraOptions& lora, const std::vector<Example>& examples,
                             double learning_rate, double anchor) {
  const Taught held = taught(model.network(), {{{1, 50, 51}, {52, 53, 54, 2}}});
  const std::vector<size_t> all = {0};
  auto learner = make_learner(model, lora, 1);
  for (int step = 0; step < 30; ++step) {
    add_supervised_gradient(learner.network(), examples, 1, 1);
    if (anchor > 0) add_anchor_gradient(learner.network(), held, all, anchor);
    update(learner, {.learning_rate = learning_rate}, 30);
  }
  return drift(learner.network(), held).divergence;
}

}  // namespace backburn::train
