#include "backburn/model/products.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "backburn/kernels/cpu.h"
#include "backburn/model/load.h"

namespace backburn::model {
namespace {

using at::Tensor;

Tensor values(std::initializer_list<int64_t> shape, uint64_t seed) {
  at::manual_seed(seed);
  return at::randn(at::IntArrayRef(shape), at::kFloat).to(at::kBFloat16);
}

// bf16 has 8 bits: a rounded result is off by 2⁻⁹ of it, twice where the sums of the two differ too.
void expect_rounded(const Tensor& found, const Tensor& wanted) {
  EXPECT_EQ(found.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::allclose(found.to(at::kFloat), wanted, 1.0 / 128, 1e-2)) << (found - wanted).abs().max();
}

TEST(Products, OfBf16ValuesAreThoseOfF32Rounded) {
  const Tensor x = values({5, 96}, 1), w = values({40, 96}, 2), bias = values({40}, 3);
  const auto wide = [](const Tensor& tensor) { return tensor.to(at::kFloat); };
  expect_rounded(linear_product(x, w), at::linear(wide(x), wide(w)));
  expect_rounded(linear_product(x, w, bias), at::linear(wide(x), wide(w), wide(bias)));
  expect_rounded(matrix_product(x, w.t()), at::matmul(wide(x), wide(w).t()));
}

TEST(Products, AttendCausallyOrByAMask) {
  const Tensor q = values({1, 2, 7, 32}, 1), k = values({1, 2, 7, 32}, 2), v = values({1, 2, 7, 32}, 3);
  const auto wide = [](const Tensor& tensor) { return tensor.to(at::kFloat); };
  const Tensor causal = at::full({7, 7}, -std::numeric_limits<double>::infinity()).triu(1);
  const Tensor scores = at::matmul(wide(q), wide(k).transpose(-2, -1)) * 0.25;
  const Tensor wanted = at::matmul(at::softmax(scores + causal, -1), wide(v));
  expect_rounded(dot_product_attention(q, k, v, {}, 0.25), wanted);
  expect_rounded(dot_product_attention(q, k, v, causal.to(at::kBFloat16), 0.25), wanted);
}

TEST(Products, HaveGradientsInTheDtypeOfTheirValues) {
  const Tensor x = values({5, 96}, 1).requires_grad_(true), w = values({40, 96}, 2).requires_grad_(true);
  const auto gradients = torch::autograd::grad({linear_product(x, w).sum()}, {x, w});
  expect_rounded(gradients[0], w.detach().to(at::kFloat).sum(0, true).expand({5, 96}));
  expect_rounded(gradients[1], x.detach().to(at::kFloat).sum(0, true).expand({40, 96}));
}

TEST(DefaultDtype, IsBf16WhereItIsComputedAtSpeed) {
  ModelConfig fitting;  // SmolLM2's sizes
  fitting.hidden_size = 576;
  fitting.intermediate_size = 1536;
  fitting.head_dim = 64;
  fitting.vocab_size = 49152;
  ModelConfig other = fitting;
  other.hidden_size = 570;
  const auto with_kernels = kernels::available() ? at::kBFloat16 : at::kFloat;
  const auto without = has_bf16_products(at::kCPU) ? at::kBFloat16 : at::kFloat;
  EXPECT_EQ(default_dtype(fitting), without == at::kBFloat16 ? without : with_kernels);
  EXPECT_EQ(default_dtype(other), without);
  EXPECT_EQ(dtype_of(at::TensorOptions(), other), without);
  EXPECT_EQ(dtype_of(at::kFloat, fitting), at::kFloat);
}

}  // namespace
}  // namespace backburn::model
