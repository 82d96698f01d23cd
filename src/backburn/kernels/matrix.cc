#include "backburn/kernels/matrix.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "backburn/kernels/huge_pages.h"
#include "backburn/kernels/matrix_kernel.h"

namespace backburn::kernels {
namespace {

void store_bf16(bf16* out, __m512 values, __mmask16 mask) {
  _mm256_mask_storeu_epi16(out, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

__m512 biased(__m512 values, const float* bias, int64_t column, __mmask16 mask) {
  return bias == nullptr ? values : _mm512_add_ps(values, _mm512_maskz_loadu_ps(mask, bias + column));
}

std::shared_ptr<bf16[]> on_heap(int64_t count) {
  auto* data = static_cast<bf16*>(std::aligned_alloc(64, static_cast<size_t>(count) * sizeof(bf16)));
  if (data == nullptr) throw std::bad_alloc();
  return {data, std::free};
}

}  // namespace

PackedMatrix::PackedMatrix(const bf16* matrix, int64_t n, int64_t k, HugePages* memory) : n_(n), k_(k) {
  data_ = memory != nullptr ? memory->take(padded_n() * k) : on_heap(padded_n() * k);
  bf16* packed = data_.get();
  const int64_t count = panels();
#pragma omp parallel for schedule(static)
  for (int64_t panel = 0; panel < count; ++panel) {
    for (int64_t row = 0; row < panel_rows; ++row) {
      const int64_t from = panel * panel_rows + row;
      uint32_t* to = reinterpret_cast<uint32_t*>(packed + panel * panel_rows * k) + row;
      for (int64_t pair = 0; pair < k / 2; ++pair) {
        uint32_t value = 0;
        if (from < n) std::memcpy(&value, matrix + from * k + 2 * pair, sizeof(value));
        to[pair * panel_rows] = value;
      }
    }
  }
}

void team_multiply(int64_t m, const Terms& terms, const float* bias, bf16* y, int64_t stride) {
  const int64_t n = terms.first.w->n();
  team_product(m, terms, [=](int64_t row, int64_t column, __m512 left, __m512 right) {
    const __mmask16 first = columns_below(n, column);
    const __mmask16 second = columns_below(n, column + 16);
    bf16* out = y + row * stride + column;
    store_bf16(out, biased(left, bias, column, first), first);
    store_bf16(out + 16, biased(right, bias, column + 16, second), second);
  });
}

void team_multiply(int64_t m, const Terms& terms, float* y, int64_t stride) {
  const int64_t n = terms.first.w->n();
  team_product(m, terms, [=](int64_t row, int64_t column, __m512 left, __m512 right) {
    float* out = y + row * stride + column;
    _mm512_mask_storeu_ps(out, columns_below(n, column), left);
    _mm512_mask_storeu_ps(out + 16, columns_below(n, column + 16), right);
  });
}

void team_multiply_add(int64_t m, const Terms& terms, float* y, int64_t stride) {
  const int64_t n = terms.first.w->n();
  team_product(m, terms, [=](int64_t row, int64_t column, __m512 left, __m512 right) {
    float* out = y + row * stride + column;
    const __mmask16 first = columns_below(n, column);
    const __mmask16 second = columns_below(n, column + 16);
    _mm512_mask_storeu_ps(out, first, _mm512_add_ps(left, _mm512_maskz_loadu_ps(first, out)));
    _mm512_mask_storeu_ps(out + 16, second, _mm512_add_ps(right, _mm512_maskz_loadu_ps(second, out + 16)));
  });
}

void team_multiply_residual(int64_t m, const Terms& terms, const float* bias, const bf16* residual, bf16* out,
                            int64_t stride) {
  const int64_t n = terms.first.w->n();
  team_product(m, terms, [=](int64_t row, int64_t column, __m512 left, __m512 right) {
    const int64_t at = row * stride + column;
    const __m512 halves[2] = {left, right};
    for (int half = 0; half < 2; ++half) {
      const __mmask16 mask = columns_below(n, column + 16 * half);
      const __m512 product = rounded(biased(halves[half], bias, column + 16 * half, mask));
      const __m256i before = _mm256_maskz_loadu_epi16(mask, residual + at + 16 * half);
      const __m512 wide = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(before), 16));
      store_bf16(out + at + 16 * half, _mm512_add_ps(wide, product), mask);
    }
  });
}

void team_multiply_swiglu(int64_t m, const Terms& terms, bf16* gate_up, bf16* out, int64_t inner) {
  team_product(m, terms, [=](int64_t row, int64_t column, __m512 gate, __m512 up) {
    if (gate_up != nullptr) {
      bf16* kept = gate_up + row * 2 * inner + column;
      store16(kept, gate);
      store16(kept + 16, up);
    }
    // Rounded where the layer by layer model rounds.
    gate = rounded(gate);
    const __m512 activated = rounded(_mm512_mul_ps(gate, sigmoid16(gate)));
    store16(out + row * inner + column / 2, _mm512_mul_ps(activated, rounded(up)));
  });
}

void team_outer_add(int64_t tokens, const bf16* y, int64_t y_stride, int64_t n, int64_t group_step, const bf16* low,
                    int64_t low_stride, int64_t r, float scale, float* out, int64_t row_step, int64_t column_step) {
  constexpr int block = 8;  // columns of y at a time, and 16 of low
  const int64_t blocks = n / block;
#pragma omp for schedule(static)
  for (int64_t i = 0; i < blocks * (r / 16); ++i) {
    const int64_t column = (i % blocks) * block;
    const int64_t low_column = (i / blocks) * 16;
    __m512 sums[block];
    for (auto& sum : sums) sum = _mm512_setzero_ps();
    for (int64_t token = 0; token < tokens; token += 2) {
      const bool last = token + 1 == tokens;
      const bf16* from = low + token * low_stride + low_column;
      const __m256i low_first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      const __m256i low_second =
          last ? _mm256_setzero_si256() : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + low_stride));
      // (first, second) of each column in one 32-bit place
      const __m512i lows =
          _mm512_or_si512(_mm512_cvtepu16_epi32(low_first), _mm512_slli_epi32(_mm512_cvtepu16_epi32(low_second), 16));
      const bf16* at = y + token * y_stride + column / 16 * group_step + column % 16;
      const __m128i y_first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
      const __m128i y_second =
          last ? _mm_setzero_si128() : _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + y_stride));
      alignas(32) int32_t pairs[block];
      _mm256_store_si256(
          reinterpret_cast<__m256i*>(pairs),
          _mm256_or_si256(_mm256_cvtepu16_epi32(y_first), _mm256_slli_epi32(_mm256_cvtepu16_epi32(y_second), 16)));
#pragma GCC unroll 8
      for (int j = 0; j < block; ++j) {
        sums[j] = _mm512_dpbf16_ps(sums[j], reinterpret_cast<__m512bh>(_mm512_set1_epi32(pairs[j])),
                                   reinterpret_cast<__m512bh>(lows));
      }
    }
    for (int j = 0; j < block; ++j) {
      alignas(64) float values[16];
      _mm512_store_ps(values, _mm512_mul_ps(sums[j], _mm512_set1_ps(scale)));
      float* to = out + (column + j) * row_step + low_column * column_step;
      for (int64_t c = 0; c < 16; ++c) to[c * column_step] += values[c];
    }
  }
}

}  // namespace backburn::kernels
