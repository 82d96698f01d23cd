#include "backburn/kernels/elementwise.h"

#include <cmath>

#include "backburn/kernels/vector.h"

namespace backburn::kernels::BACKBURN_VECTOR {
namespace {

// 1 / √(mean x² + eps)
float inverse_rms(const bf16* x, int64_t width, float eps) {
  Floats sum = zeros();
  for (int64_t i = 0; i < width; i += 16) {
    const Floats value = load16(x + i);
    sum = fmadd(value, value, sum);
  }
  return 1.0F / std::sqrt(reduce_add(sum) / static_cast<float>(width) + eps);
}

}  // namespace

void team_rms_norm(int64_t rows, int64_t width, const bf16* x, const bf16* weight, float eps, bf16* out) {
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const bf16* from = x + row * width;
    const Floats inverse = all(inverse_rms(from, width, eps));
    for (int64_t i = 0; i < width; i += 16) {
      const Floats scaled = rounded(load16(from + i) * inverse);
      store16(out + row * width + i, scaled * load16(weight + i));
    }
  }
}

void team_rms_norm_gradient(int64_t rows, int64_t width, const bf16* x, const bf16* weight, float eps,
                            const bf16* out_gradient, float* gradient, bf16* rounded_gradient) {
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const bf16* from = x + row * width;
    const bf16* slope = out_gradient + row * width;
    float* to = gradient + row * width;
    const float inverse = inverse_rms(from, width, eps);
    Floats dot = zeros();
    for (int64_t i = 0; i < width; i += 16) {
      dot = fmadd(load16(slope + i) * load16(weight + i), load16(from + i), dot);
    }
    const Floats scale = all(inverse);
    const Floats share = all(reduce_add(dot) / static_cast<float>(width) * inverse * inverse * inverse);
    for (int64_t i = 0; i < width; i += 16) {
      const Floats direct = load16(slope + i) * load16(weight + i) * scale;
      const Floats sum = load(to + i) + fnmadd(load16(from + i), share, direct);
      store(to + i, sum);
      store16(rounded_gradient + row * width + i, sum);
    }
  }
}

void team_rotate(int64_t rows, int64_t heads, int64_t head_dim, const float* cosine, const float* sine, bf16* x,
                 int64_t stride) {
  const int64_t half = head_dim / 2;
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      bf16* first = x + row * stride + head * head_dim;
      bf16* second = first + half;
      for (int64_t i = 0; i < half; i += 16) {
        const Floats c = load(cosine + row * half + i);
        const Floats s = load(sine + row * half + i);
        const Floats a = load16(first + i);
        const Floats b = load16(second + i);
        store16(first + i, fnmadd(b, s, a * c));
        store16(second + i, fmadd(a, s, b * c));
      }
    }
  }
}

void team_rotate_back(int64_t rows, int64_t heads, int64_t head_dim, const float* cosine, const float* sine,
                      const float* x, bf16* out, int64_t width) {
  const int64_t half = head_dim / 2;
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t first = row * width + head * head_dim;
      const int64_t second = first + half;
      for (int64_t i = 0; i < half; i += 16) {
        const Floats c = load(cosine + row * half + i);
        const Floats s = load(sine + row * half + i);
        const Floats a = load(x + first + i);
        const Floats b = load(x + second + i);
        store16(out + first + i, fmadd(b, s, a * c));
        store16(out + second + i, fnmadd(a, s, b * c));
      }
    }
    for (int64_t i = row * width + heads * head_dim; i < (row + 1) * width; i += 16) {
      store16(out + i, load(x + i));
    }
  }
}

void team_swiglu_gradient(int64_t rows, int64_t inner, const bf16* gate_up, const bf16* out_gradient,
                          bf16* gate_up_gradient, bf16* out) {
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < inner; i += 16) {
      const int64_t at = row * 2 * inner + 2 * i;
      const Floats gate = load16(gate_up + at);
      const Floats up = load16(gate_up + at + 16);
      const Floats slope = load16(out_gradient + row * inner + i);
      const Floats sigmoid = sigmoid16(gate);
      const Floats activated = gate * sigmoid;
      // d silu = σ + silu · (1 − σ)
      const Floats steep = fmadd(activated, all(1.0F) - sigmoid, sigmoid);
      store16(gate_up_gradient + at, slope * up * steep);
      store16(gate_up_gradient + at + 16, slope * activated);
      store16(out + row * inner + i, rounded(activated) * up);
    }
  }
}

}  // namespace backburn::kernels::BACKBURN_VECTOR
