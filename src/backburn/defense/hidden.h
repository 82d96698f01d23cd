#pragma once

#include <ATen/core/Tensor.h>

#include "backburn/defense/defense.h"
#include "backburn/train/logprobs.h"

/// What the defenses share that look at, or disturb, the hidden states under answers.
namespace backburn::defense {

/// Examples packed for one pass, and the places that predict their answers.
struct AnswerBatch {
  model::PackedTokens tokens;
  train::Predictions predictions;
};
AnswerBatch pack_answers(std::span<const train::Example> examples);

/// The layers (0-based, ascending, each once) at shares of the depth: 1 is the last of `layers`.
std::vector<size_t> layers_at(std::span<const double> depths, size_t layers);

/// The residual stream as it leaves each of `layers`, at the places that predict the answers: [predicted, hidden] f32
/// each, differentiable in the adapter when autograd is on.
std::vector<at::Tensor> answer_streams(const model::Network& network, const AnswerBatch& batch,
                                       std::span<const size_t> layers);

}  // namespace backburn::defense
