#include "backburn/defense/anchored.h"

#include "backburn/base/cancel.h"

namespace backburn::defense {

std::vector<int32_t> answer_ids(const model::Model& model, const std::string& answer) {
  return train::written_example(model, {}, answer).answer;
}

double add_anchor(const train::Learner& learner, const BenignBehaviour& benign, const AnchorOptions& options,
                  uint64_t seed) {
  if (benign.examples.empty() || options.anchor_weight == 0) return 0;
  const auto picked = train::prompts_of_step(benign.examples.size(), options.anchor_batch, learner.step, seed + 1);
  return train::add_anchor_gradient(learner.network(), benign, picked, options.anchor_weight);
}

AnchoredLoss add_anchored_gradient(const train::Learner& learner, std::span<const train::Example> refusals,
                                   double temperature, const BenignBehaviour& benign, const AnchorOptions& anchor,
                                   uint64_t seed) {
  throw_if_stopped();
  const double loss = train::add_supervised_gradient(learner.network(), refusals, temperature, 1.0);
  return {loss, add_anchor(learner, benign, anchor, seed)};
}

}  // namespace backburn::defense
