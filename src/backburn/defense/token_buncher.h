#pragma once

#include <ATen/core/Tensor.h>

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// Random weights [targets, vocabulary] f32, from a uniform distribution, 0 at each row's target, each row's sum
/// epsilon.
at::Tensor token_noise(const at::Tensor& targets, int64_t vocabulary, double epsilon, uint64_t seed);

/// The Token Noiser's loss for logits [rows, vocabulary] f32: (1 − ε) · (−ln π(target)) + ε · Σ noise · (−ln π), summed
/// over the rows. Differentiable.
at::Tensor noised_loss(const at::Tensor& logits, const at::Tensor& targets, double epsilon, uint64_t seed);

/// TokenBuncher (Feng 2025, arXiv 2508.20697, and its released code): GRPO on restricted prompts whose reward is the
/// negative mean entropy of an answer's tokens; after a warm-up, also the Token Noiser: cross-entropy on the sampled
/// answers whose advantage is not negative, with noise on every other token, so that an attacker who raises the entropy
/// again gets gibberish.
/// It bunches what the model already says: the reward does not ask for refusals. Nor has the entropy itself a gradient:
/// it is a reward like any other, and answers that lead through sure tokens become likelier.
/// Simplified: both gradients in every step, where the released code takes turns; the KL to the reference in the reward
/// (weight 0.001) is the anchor's KL on benign answers.
train::Learner run_token_buncher(const DefenseInputs& inputs, const DefenseOptions& options,
                                 const DefenseEvents& on_step);

}  // namespace backburn::defense
