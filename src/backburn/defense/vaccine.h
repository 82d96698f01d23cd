#pragma once

#include <ATen/core/Tensor.h>

#include "backburn/defense/defense.h"
#include "backburn/defense/hidden.h"

namespace backburn::defense {

/// −ln π of the batch's answers, nats a token, with `perturbation` [tokens, hidden] added to the residual stream as it
/// leaves each layer (empty: none). Differentiable.
at::Tensor perturbed_loss(const model::Network& network, const AnswerBatch& batch,
                          std::span<const at::Tensor> perturbation);

/// The perturbation, one tensor a layer, that raises that loss most, to first order, among all of norm ρ: ρ g / ‖g‖
/// with g the gradient in the layers' outputs and ‖g‖ its norm over all of them. Leaves the adapter's gradients alone.
std::vector<at::Tensor> worst_perturbation(const model::Network& network, const AnswerBatch& batch, double rho);

/// Vaccine (Huang 2024, arXiv 2402.01109, algorithm 1): supervised tuning on refusals whose gradient is taken under the
/// worst perturbation of the hidden states, so that a later drift of them does less.
/// Simplified: an adapter of one rank for all, AdamW. The paper's alignment stage has no utility term; set
/// refusal_sft.anchor_weight to 0 for its form.
train::Learner run_vaccine(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step);

}  // namespace backburn::defense
