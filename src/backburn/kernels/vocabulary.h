#pragma once

#include <cstdint>

#include "backburn/kernels/matrix.h"

/// Operations over a whole vocabulary that never hold [rows, vocab] logits.
///
/// Logits are hidden · headᵀ / temperature in f32: bf16 would leave steps of 1/8 between the likeliest tokens. hidden
/// states are [rows, head.k()] with rows `stride` elements apart (even), and so are their gradients; head is [vocab,
/// hidden], head_transposed [hidden, vocab] with an even vocab. What is per row is [rows] f32; ln and entropies are in
/// nats. Each thread takes rows of its own: with fewer rows than threads, some have nothing to do.
namespace backburn::kernels {

/// ln π(target), the entropy of π, and ln Z, the normalizer: π = exp(logit − ln Z). targets [rows], in [0, vocab).
void team_token_logprobs(int64_t rows, const bf16* hidden, int64_t stride, const PackedMatrix& head,
                         const int64_t* targets, float temperature, float* logprobs, float* entropies,
                         float* normalizers);

/// hidden_gradient = Σ_v slope[v] · head[v], slope = gradient / temperature · (1[v = target] − π(v)) rounded to bf16:
/// the gradient of Σ gradients · logprobs. normalizers are those that team_token_logprobs found.
void team_token_logprobs_gradient(int64_t rows, const bf16* hidden, int64_t stride, const PackedMatrix& head,
                                  const PackedMatrix& head_transposed, const int64_t* targets, float temperature,
                                  const float* normalizers, const float* gradients, bf16* hidden_gradient);

/// KL(π_teacher ‖ π_student) at temperature 1, and both normalizers ln Z.
void team_divergence(int64_t rows, const bf16* student, const bf16* teacher, int64_t stride, const PackedMatrix& head,
                     float* divergences, float* student_normalizers, float* teacher_normalizers);

/// The gradient of Σ gradients · divergences for the student's hidden states, likewise: the slopes are
/// gradient · (π_student − π_teacher).
void team_divergence_gradient(int64_t rows, const bf16* student, const bf16* teacher, int64_t stride,
                              const PackedMatrix& head, const PackedMatrix& head_transposed,
                              const float* student_normalizers, const float* teacher_normalizers,
                              const float* gradients, bf16* student_gradient);

/// Draws a token a row from logits [rows, vocabulary] f32 (`stride` apart, not yet divided by the temperature): the
/// first whose cumulative probability passes uniforms[row] ∈ [0, 1) of the whole. Temperature 0 takes the first of the
/// likeliest tokens; what is said of it is that of temperature 1. The rest is what team_token_logprobs says of the
/// token, to the last bit, so that an update on sampled tokens need not make their logits again. The logprob is NaN
/// where there is no distribution: a logit is NaN or +∞, or all are −∞.
void team_sample(int64_t rows, const float* logits, int64_t stride, int64_t vocabulary, float temperature,
                 const float* uniforms, int32_t* ids, float* logprobs, float* entropies, float* normalizers);

/// The same of tokens `ids` in [0, vocabulary) that were drawn otherwise, from logits that are a distribution.
/// temperature > 0.
void team_describe(int64_t rows, const float* logits, int64_t stride, int64_t vocabulary, float temperature,
                   const int32_t* ids, float* logprobs, float* entropies, float* normalizers);

}  // namespace backburn::kernels
