#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// What the supervised parts of all defenses share: refusals learnt on one side, benign behaviour held on the other.
struct AnchoredLoss {
  double refusal = 0;  ///< −ln π_T of the refusals, nats a token
  double kl = 0;       ///< anchor, nats a token
};

/// The token ids of an answer, closed by the model's first stop token.
std::vector<int32_t> answer_ids(const model::Model& model, const std::string& answer);

/// Adds the anchor's gradient for the learner's step. Returns the KL; 0 with a weight of 0 or without benign answers.
double add_anchor(const train::Learner& learner, const BenignBehaviour& benign, const AnchorOptions& options,
                  uint64_t seed);

/// Adds both gradients for the learner's step: the refusals' at temperature T, and the anchor's.
AnchoredLoss add_anchored_gradient(const train::Learner& learner, std::span<const train::Example> refusals,
                                   double temperature, const BenignBehaviour& benign, const AnchorOptions& anchor,
                                   uint64_t seed);

}  // namespace backburn::defense
