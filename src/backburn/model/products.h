#pragma once

#include <ATen/core/Tensor.h>

namespace backburn::model {

/// Whether LibTorch multiplies bf16 at the machine's speed: a GPU, or a CPU with AVX512-BF16 or AMX-BF16. On other CPUs
/// its bf16 products take ten times as long as those of f32.
bool has_bf16_products(at::Device device);

/// x · weightᵀ + bias (at::linear), and a · b (at::matmul). Where there are no bf16 products, those of bf16 values are
/// made in f32 and rounded.
at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});
at::Tensor matrix_product(const at::Tensor& a, const at::Tensor& b);

/// at::scaled_dot_product_attention, likewise. mask undefined: causal.
at::Tensor dot_product_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& mask,
                                 double scale);

}  // namespace backburn::model
