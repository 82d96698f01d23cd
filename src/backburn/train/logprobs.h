#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "backburn/model/transformer.h"

namespace backburn::train {

/// Which hidden state predicts which token: every branch token of every tree, tree by tree, branch by branch.
struct Predictions {
  at::Tensor rows;               ///< [predicted] int64: index of the packed token whose hidden state predicts
  at::Tensor targets;            ///< [predicted] int64: the token that follows
  std::vector<int64_t> lengths;  ///< predicted tokens per branch, in order
};
Predictions branch_predictions(const model::PackedTokens& tokens);

struct TokenLogprobs {
  at::Tensor logprobs;   ///< [predicted] f32, differentiable in `hidden`
  at::Tensor entropies;  ///< [predicted] f32 nats, not differentiable
};

/// ln π_T(target | …) and the entropy of π_T, for hidden states [predicted, hidden] and a frozen head [vocab, hidden].
/// Logits are made in chunks of rows and made again for the gradient: a [predicted × vocab] tensor is never held.
TokenLogprobs token_logprobs(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                             double temperature);

/// KL(π_teacher ‖ π_student) per row over the whole vocabulary, [rows] f32 nats, differentiable in `student`; both are
/// hidden states [rows, hidden] before the same frozen head. Chunked like token_logprobs.
at::Tensor token_divergence(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& head);

/// The part of each row that training needs: hidden_states of `tokens` at `predictions.rows`.
at::Tensor predicting_states(const model::Network& network, const model::PackedTokens& tokens,
                             const Predictions& predictions);

}  // namespace backburn::train
