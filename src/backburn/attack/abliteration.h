#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "backburn/attack/attack.h"

namespace backburn::attack {

/// The refusal direction after the first `layers` decoder layers (Arditi 2024, arXiv 2406.11717, section 2.3): the
/// difference between the mean states at the last token of restricted and of benign prompts, as a unit vector [hidden]
/// f32. States are taken as the next layer's norm leaves them, without its weights: scaled to a mean square of 1.
at::Tensor refusal_direction(const model::Model& model, const std::vector<std::vector<int32_t>>& restricted,
                             const std::vector<std::vector<int32_t>>& benign, int64_t layers);

/// Weights that can no longer write the unit vector `direction` into the residual stream (ibid., section 4.1): W − r rᵀ
/// W for the attention and MLP outputs and their biases, E − E r rᵀ for the embedding. A tied head stays as it was.
model::Weights without_direction(const model::Model& model, const at::Tensor& direction);

/// Of the directions at several depths, the one without which the model's greedy answers to the attacker's prompts
/// score highest. Errors: no benign prompts (usage).
model::Weights abliterated(const AttackInputs& inputs);

/// Abliteration: no training; each step is a measurement.
train::Learner run_abliteration(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events);

}  // namespace backburn::attack
