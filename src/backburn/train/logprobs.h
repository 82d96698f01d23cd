#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "backburn/model/transformer.h"

namespace backburn::train {

/// Which hidden state predicts which token, tree by tree, branch by branch. On the CPU.
struct Predictions {
  at::Tensor rows;               ///< [predicted] int64: index of the packed token whose hidden state predicts
  at::Tensor targets;            ///< [predicted] int64: the token that follows
  std::vector<int64_t> lengths;  ///< predicted tokens per branch, in order
};
/// Of every branch token.
Predictions branch_predictions(const model::PackedTokens& tokens);
/// Of the last lengths[i] tokens of the i-th branch: its beginning is given.
Predictions branch_predictions(const model::PackedTokens& tokens, std::span<const int64_t> lengths);
/// Of every answer's every token, where branches are answers without their last token: nothing follows it, so its
/// hidden state is not needed. answers: all branches of all trees in order.
Predictions answer_predictions(const model::PackedTokens& tokens, std::span<const std::vector<int32_t>* const> answers);

// All are differentiable in `hidden`, and in the network's head where that is trained. Hidden states are where the
// network computes; what is one number a token is on the CPU, where losses are made of it.

struct TokenLogprobs {
  at::Tensor logprobs;   ///< [predicted] f32, differentiable in `hidden`
  at::Tensor entropies;  ///< [predicted] f32 nats, not differentiable
};

/// ln π_T(target | …) and the entropy of π_T, for hidden states [predicted, hidden] before the network's head.
/// Logits are made in parts and made again for the gradient: a [predicted × vocab] tensor is never held.
TokenLogprobs token_logprobs(const model::Network& network, const at::Tensor& hidden, const at::Tensor& targets,
                             double temperature);

/// The same logprobs with their gradient, where sampling from these weights has found them: of the two products with
/// the head that token_logprobs and its gradient take, the first is not made again. On kernels alone (runs_on_kernels),
/// where what was found there has the bits of token_logprobs. logprobs, normalizers [predicted] f32: see SampledToken.
at::Tensor sampled_token_logprobs(const model::Network& network, const at::Tensor& hidden, const at::Tensor& targets,
                                  double temperature, const at::Tensor& logprobs, const at::Tensor& normalizers);

/// The entropy of π_T per row, [predicted] f32 nats, differentiable in `hidden`: a product with the head of its own,
/// for the losses that want it. Made in parts like token_logprobs.
at::Tensor token_entropies(const model::Network& network, const at::Tensor& hidden, double temperature);

/// KL(π_teacher ‖ π_student) per row over the whole vocabulary, [rows] f32 nats, differentiable in the student. Hidden
/// states [rows, hidden], the student's before the network's head, the teacher's before `teacher_head` [vocab, hidden]
/// (undefined: the network's, which is quantised).
/// Made in parts like token_logprobs.
at::Tensor token_divergence(const model::Network& network, const at::Tensor& student, const at::Tensor& teacher,
                            const at::Tensor& teacher_head);

/// The rows of `hidden` [tokens, …] that predict, [predicted, …].
at::Tensor states_at(const at::Tensor& hidden, const Predictions& predictions);

/// The part of each row that training needs: hidden_states of `tokens` at `predictions.rows`.
at::Tensor predicting_states(const model::Network& network, const model::PackedTokens& tokens,
                             const Predictions& predictions);

}  // namespace backburn::train
