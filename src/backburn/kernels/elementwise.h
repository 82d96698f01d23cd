#pragma once

#include <cstdint>

#include "backburn/kernels/matrix.h"

/// What a decoder layer does between its products. Sizes that are called `width` are multiples of 32. See matrix.h for
/// team_….
namespace backburn::kernels {

/// out = weight · (x / √(mean x² + eps)), rounded before and after the product with weight (Zhang 2019,
/// arXiv 1910.07467). x, out [rows, width]; weight [width].
void team_rms_norm(int64_t rows, int64_t width, const bf16* x, const bf16* weight, float eps, bf16* out);

/// gradient += d(rms_norm)/dx · out_gradient, and `rounded` = gradient in bf16. gradient [rows, width] f32.
void team_rms_norm_gradient(int64_t rows, int64_t width, const bf16* x, const bf16* weight, float eps,
                            const bf16* out_gradient, float* gradient, bf16* rounded);

/// Turns the first `heads` heads of each row in place (Su 2021, arXiv 2104.09864; the halves of a head are its pairs).
/// x [rows, stride], cosine and sine [rows, head_dim / 2].
void team_rotate(int64_t rows, int64_t heads, int64_t head_dim, const float* cosine, const float* sine, bf16* x,
                 int64_t stride);

/// out = x in bf16, its first `heads` heads turned back: the gradient of team_rotate. x, out [rows, width].
void team_rotate_back(int64_t rows, int64_t heads, int64_t head_dim, const float* cosine, const float* sine,
                      const float* x, bf16* out, int64_t width);

/// The gradient of team_multiply_swiglu's activation. gate_up and its gradient [rows, 2 × inner] in the panels' order;
/// out_gradient [rows, inner]; out [rows, inner] is the activation, computed again.
void team_swiglu_gradient(int64_t rows, int64_t inner, const bf16* gate_up, const bf16* out_gradient,
                          bf16* gate_up_gradient, bf16* out);

}  // namespace backburn::kernels
