#include "backburn/kernels/elementwise.h"

#include <cmath>

#include "backburn/kernels/vector.h"

namespace backburn::kernels {
namespace {

// 1 / √(mean x² + eps)
float inverse_rms(const bf16* x, int64_t width, float eps) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < width; i += 16) {
    const __m512 value = load16(x + i);
    sum = _mm512_fmadd_ps(value, value, sum);
  }
  return 1.0F / std::sqrt(_mm512_reduce_add_ps(sum) / static_cast<float>(width) + eps);
}

}  // namespace

void team_rms_norm(int64_t rows, int64_t width, const bf16* x, const bf16* weight, float eps, bf16* out) {
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const bf16* from = x + row * width;
    const __m512 inverse = _mm512_set1_ps(inverse_rms(from, width, eps));
    for (int64_t i = 0; i < width; i += 16) {
      const __m512 scaled = rounded(_mm512_mul_ps(load16(from + i), inverse));
      store16(out + row * width + i, _mm512_mul_ps(scaled, load16(weight + i)));
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
    __m512 dot = _mm512_setzero_ps();
    for (int64_t i = 0; i < width; i += 16) {
      dot = _mm512_fmadd_ps(_mm512_mul_ps(load16(slope + i), load16(weight + i)), load16(from + i), dot);
    }
    const __m512 scale = _mm512_set1_ps(inverse);
    const __m512 share =
        _mm512_set1_ps(_mm512_reduce_add_ps(dot) / static_cast<float>(width) * inverse * inverse * inverse);
    for (int64_t i = 0; i < width; i += 16) {
      const __m512 direct = _mm512_mul_ps(_mm512_mul_ps(load16(slope + i), load16(weight + i)), scale);
      const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(to + i), _mm512_fnmadd_ps(load16(from + i), share, direct));
      _mm512_storeu_ps(to + i, sum);
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
        const __m512 c = _mm512_loadu_ps(cosine + row * half + i);
        const __m512 s = _mm512_loadu_ps(sine + row * half + i);
        const __m512 a = load16(first + i);
        const __m512 b = load16(second + i);
        store16(first + i, _mm512_fnmadd_ps(b, s, _mm512_mul_ps(a, c)));
        store16(second + i, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
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
        const __m512 c = _mm512_loadu_ps(cosine + row * half + i);
        const __m512 s = _mm512_loadu_ps(sine + row * half + i);
        const __m512 a = _mm512_loadu_ps(x + first + i);
        const __m512 b = _mm512_loadu_ps(x + second + i);
        store16(out + first + i, _mm512_fmadd_ps(b, s, _mm512_mul_ps(a, c)));
        store16(out + second + i, _mm512_fnmadd_ps(a, s, _mm512_mul_ps(b, c)));
      }
    }
    for (int64_t i = row * width + heads * head_dim; i < (row + 1) * width; i += 16) {
      store16(out + i, _mm512_loadu_ps(x + i));
    }
  }
}

void team_swiglu_gradient(int64_t rows, int64_t inner, const bf16* gate_up, const bf16* out_gradient,
                          bf16* gate_up_gradient, bf16* out) {
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < inner; i += 16) {
      const int64_t at = row * 2 * inner + 2 * i;
      const __m512 gate = load16(gate_up + at);
      const __m512 up = load16(gate_up + at + 16);
      const __m512 slope = load16(out_gradient + row * inner + i);
      const __m512 sigmoid = sigmoid16(gate);
      const __m512 activated = _mm512_mul_ps(gate, sigmoid);
      // d silu = σ + silu · (1 − σ)
      const __m512 steep = _mm512_fmadd_ps(activated, _mm512_sub_ps(_mm512_set1_ps(1.0F), sigmoid), sigmoid);
      store16(gate_up_gradient + at, _mm512_mul_ps(_mm512_mul_ps(slope, up), steep));
      store16(gate_up_gradient + at + 16, _mm512_mul_ps(slope, activated));
      store16(out + row * inner + i, _mm512_mul_ps(rounded(activated), up));
    }
  }
}

}  // namespace backburn::kernels
