#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// Adds the gradient of λ (h(w) − h(w − α ∇h(w) / ‖∇h(w)‖)) in w, the adapter's parameters, to first order: λ (∇h(w) −
/// ∇h(w')). h is −ln π of harmful answers, nats a token. Leaves w as it was. Returns h(w) − h(w').
double add_attenuation_gradient(const train::Learner& learner, std::span<const train::Example> harmful, double alpha,
                                double lambda);

/// Booster (Huang 2024, arXiv 2409.01586, equation 2 and algorithm 1): supervised tuning on refusals, regularised by
/// how much a normalised gradient step on harmful answers would lower their loss. Simplified: w are the adapter's
/// parameters (the paper's too); AdamW; the anchor stands beside the alignment loss (the paper has no utility term: set
/// refusal_sft.anchor_weight to 0 for its form).
train::Learner run_booster(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step);

}  // namespace backburn::defense
