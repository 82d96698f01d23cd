#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// What the supervised parts of all defenses share: refusals learnt on one side, benign behaviour held on the other.
struct StepLoss {
  double loss = 0;  ///< of the refusals, −ln π_T in nats a token, or the defense's own
  double kl = 0;    ///< anchor, nats a token
};

/// Adds the gradient of the learner's step to its adapter's.
using StepGradient = std::function<StepLoss(const train::Learner& learner)>;

/// Steps along the gradient from the checkpoint or the learner's beginning on, and tells the observer of each as
/// `phase`.
train::Learner run_supervised(train::Learner learner, const DefenseInputs& inputs, const RefusalSftOptions& options,
                              const std::string& phase, const DefenseEvents& on_step, const StepGradient& gradient);

/// Plain supervised tuning on these examples, everyone in turn, with the anchor.
train::Learner tune_on(std::span<const train::Example> examples, const DefenseInputs& inputs,
                       const RefusalSftOptions& options, const std::string& phase, const DefenseEvents& on_step);

/// The token ids of an answer, closed by the model's first stop token.
std::vector<int32_t> answer_ids(const model::Model& model, const std::string& answer);

/// Adds the anchor's gradient for the learner's step, to benign answers in turn; half of the batch to those of `hard`,
/// where there are any. Returns the KL; 0 with a weight of 0 or without benign answers.
double add_anchor(const train::Learner& learner, const BenignBehaviour& benign, const AnchorOptions& options,
                  uint64_t seed, std::span<const size_t> hard = {});

/// Adds both gradients for the learner's step: the refusals' at temperature T, and the anchor's.
StepLoss add_anchored_gradient(const train::Learner& learner, std::span<const train::Example> refusals,
                               double temperature, const BenignBehaviour& benign, const AnchorOptions& anchor,
                               uint64_t seed, std::span<const size_t> hard = {});

}  // namespace backburn::defense
