#include "backburn/model/products.h"

#include <ATen/Functions.h>
#include <cpuid.h>

namespace backburn::model {
namespace {

using at::Tensor;

bool cpu_has_bf16_products() {
  // Leaf 7, sub-leaf 0, edx bit 22: AMX-BF16 (Intel SDM, volume 2, CPUID).
  unsigned int eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool amx = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx >> 22 & 1) != 0;
  return amx || __builtin_cpu_supports("avx512bf16");
}

bool is_slow(const Tensor& x) { return x.scalar_type() == at::kBFloat16 && !has_bf16_products(x.device()); }

Tensor widened(const Tensor& x) { return x.defined() ? x.to(at::kFloat) : x; }

}  // namespace

bool has_bf16_products(at::Device device) {
  static const bool on_cpu = cpu_has_bf16_products();
  return !device.is_cpu() || on_cpu;
}

Tensor linear_product(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (!is_slow(x)) return at::linear(x, weight, bias);
  return at::linear(widened(x), widened(weight), widened(bias)).to(at::kBFloat16);
}

Tensor matrix_product(const Tensor& a, const Tensor& b) {
  return is_slow(a) ? at::matmul(widened(a), widened(b)).to(at::kBFloat16) : at::matmul(a, b);
}

Tensor dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, double scale) {
  if (is_slow(q)) {
    return dot_product_attention(widened(q), widened(k), widened(v), widened(mask), scale).to(at::kBFloat16);
  }
  const std::optional<Tensor> given = mask.defined() ? std::optional<Tensor>(mask) : std::nullopt;
  return at::scaled_dot_product_attention(q, k, v, given, 0.0, !mask.defined(), scale);
}

}  // namespace backburn::model
