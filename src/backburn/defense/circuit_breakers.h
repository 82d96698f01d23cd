#pragma once

#include <ATen/core/Tensor.h>

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// The mean over layers and rows of ReLU(cos(now, original)); hidden states [rows, hidden] a layer.
at::Tensor rerouting_loss(std::span<const at::Tensor> now, std::span<const at::Tensor> original);

/// The mean over layers and rows of ‖now − original‖₂.
at::Tensor retain_loss(std::span<const at::Tensor> now, std::span<const at::Tensor> original);

/// Circuit breakers by representation rerouting (Zou 2024, arXiv 2406.04313, algorithm 1): hidden states under harmful
/// answers are turned until they are orthogonal to the original model's (rerouting_loss, weight α(1 − t/2T) at step t
/// of T), and those under benign answers and refusals stay where they were (retain_loss, weight αt/2T).
/// Simplified: states at the places that predict an answer's tokens; layers by depth, 10 and 20 of Llama-3-8B's 32
/// being about 0.3 and 0.6; the adapter covers every layer, of which those above the last chosen one get no gradient.
train::Learner run_circuit_breakers(const DefenseInputs& inputs, const DefenseOptions& options,
                                    const DefenseEvents& on_step);

}  // namespace backburn::defense
