#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// Adds the gradient of ρ/2 ‖w − point‖², w the learner's parameters. Returns that term.
double add_proximal_gradient(const train::Learner& learner, std::span<const at::Tensor> point, double rho);

/// Lisa (Huang 2024, arXiv 2405.18641, and its released code): training takes turns between two states,
/// some steps on alignment data (−ln π of refusals) and some on the user's fine-tuning data, each held by a proximal
/// term to the weights with which the other state ended.
/// Simplified: Lisa defends a service that fine-tunes on its users' data, which a releaser of weights never sees; here
/// the second state holds the model's own benign answers (the anchor). Two states together take as many steps as lie
/// between checkpoints (10; the paper: 100 and 900), so that a run that goes on has both states' ends at hand. The
/// released code leaves the proximal term out of the first tenth of the steps; here it is always there.
train::Learner run_lisa(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step);

}  // namespace backburn::defense
