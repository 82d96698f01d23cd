#pragma once

// See vector.h.
#include <immintrin.h>

#include <cstdint>

// GCC 12's intrinsics start from a register that they declare as itself (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,bmi2")

#define BACKBURN_VECTOR avx512

/// 16 floats, or 16 pairs of bf16 values, in a register.
namespace backburn::kernels::BACKBURN_VECTOR {

using Floats = __m512;  ///< has + − · ÷
using Pairs = __m512bh;
using Mask = __mmask16;

constexpr int vector_registers = 32;

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats all(float value) { return _mm512_set1_ps(value); }

inline Floats load(const float* values) { return _mm512_loadu_ps(values); }
inline Floats load_or_zero(Mask mask, const float* values) { return _mm512_maskz_loadu_ps(mask, values); }
inline Floats load_or(Floats other, Mask mask, const float* values) {
  return _mm512_mask_loadu_ps(other, mask, values);
}
inline void store(float* out, Floats values) { _mm512_storeu_ps(out, values); }
inline void store(float* out, Mask mask, Floats values) { _mm512_mask_storeu_ps(out, mask, values); }

inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats fmadd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats fmsub(Floats a, Floats b, Floats c) { return _mm512_fmsub_ps(a, b, c); }
inline Floats fnmadd(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }
inline Floats nearest(Floats a) { return _mm512_roundscale_ps(a, 0); }
inline Floats times_power_of_2(Floats a, Floats n) { return _mm512_scalef_ps(a, n); }

inline Mask greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
inline Mask not_a_number(Floats a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
inline Floats choose(Mask mask, Floats where, Floats elsewhere) { return _mm512_mask_blend_ps(mask, elsewhere, where); }
inline Floats subtract_or(Floats other, Mask mask, Floats a, Floats b) { return _mm512_mask_sub_ps(other, mask, a, b); }
inline Floats subtract_or_zero(Mask mask, Floats a, Floats b) { return _mm512_maskz_sub_ps(mask, a, b); }

/// Σ in a fixed order: halves, quarters, then neighbours but one, then neighbours.
inline float reduce_add(Floats a) { return _mm512_reduce_add_ps(a); }
inline float reduce_add(Mask mask, Floats a) { return _mm512_mask_reduce_add_ps(mask, a); }
inline float reduce_max(Floats a) { return _mm512_reduce_max_ps(a); }

// Adds neighbouring pairs of two registers, the first's results before the second's in each quarter.
inline Floats fold_pairs(Floats left, Floats right) {
  const __m512d a = _mm512_castps_pd(left), b = _mm512_castps_pd(right);
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
}

/// reduce_add of each of 16.
inline Floats reduce_add(const Floats (&sums)[16]) {
  Floats halves[8], quarters[4];
  for (int i = 0; i < 8; ++i) {
    const Floats left = sums[i / 4 * 8 + i % 4], right = sums[i / 4 * 8 + i % 4 + 4];
    halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(left, right, 0x44), _mm512_shuffle_f32x4(left, right, 0xEE));
  }
  for (int i = 0; i < 4; ++i) {
    const Floats left = halves[i], right = halves[i + 4];
    quarters[i] = _mm512_add_ps(_mm512_shuffle_f32x4(left, right, 0x88), _mm512_shuffle_f32x4(left, right, 0xDD));
  }
  const Floats even = fold_pairs(quarters[0], quarters[1]), odd = fold_pairs(quarters[2], quarters[3]);
  return _mm512_add_ps(_mm512_shuffle_ps(even, odd, 0x88), _mm512_shuffle_ps(even, odd, 0xDD));
}

inline Floats load16(const uint16_t* values) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values))), 16));
}

inline Floats load16_or_zero(Mask mask, const uint16_t* values) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, values)), 16));
}

inline void store16(uint16_t* out, Floats values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

inline void store16(uint16_t* out, Mask mask, Floats values) {
  _mm256_mask_storeu_epi16(out, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

inline void store32(uint16_t* out, Floats first, Floats second) {
  _mm512_storeu_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first)));
}

/// Rounded to bf16 and back.
inline Floats rounded(Floats values) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values))), 16));
}

inline Pairs load_pairs(const uint16_t* values) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(values)); }
inline Pairs all_pairs(int32_t pair) { return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)); }

/// (first[i], second[i]); second null: (first[i], 0).
inline Pairs zip_pairs(const uint16_t* first, const uint16_t* second) {
  const __m256i left = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first));
  const __m256i right =
      second == nullptr ? _mm256_setzero_si256() : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(second));
  return reinterpret_cast<__m512bh>(
      _mm512_or_si512(_mm512_cvtepu16_epi32(left), _mm512_slli_epi32(_mm512_cvtepu16_epi32(right), 16)));
}

constexpr int outer_rows = 8;  ///< of a tile of team_outer_add

inline void zip_pairs(const uint16_t* first, const uint16_t* second, int32_t (&out)[outer_rows]) {
  const __m128i left = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
  const __m128i right =
      second == nullptr ? _mm_setzero_si128() : _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
  _mm256_store_si256(reinterpret_cast<__m256i*>(out),
                     _mm256_or_si256(_mm256_cvtepu16_epi32(left), _mm256_slli_epi32(_mm256_cvtepu16_epi32(right), 16)));
}

/// sum + a · b of each pair, the second of a pair first.
inline Floats add_dots(Floats sum, Pairs a, Pairs b) { return _mm512_dpbf16_ps(sum, a, b); }

/// What quantised values need. 16 bytes as numbers.
inline Floats signed_bytes(const uint8_t* bytes) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes))));
}

/// The low and the high four bits of 16 bytes, less 8.
inline void split_bytes(const uint8_t* bytes, Floats& low, Floats& high) {
  const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
  // The look-up takes the low four bits alone.
  const __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  low = _mm512_permutexvar_ps(both, values);
  high = _mm512_permutexvar_ps(_mm512_srli_epi32(both, 4), values);
}

/// 16 half precision values, each twice.
inline void load_halves_twice(const uint8_t* halves, Floats& first, Floats& second) {
  const __m512i low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  const __m512 values = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
  first = _mm512_permutexvar_ps(low, values);
  second = _mm512_permutexvar_ps(high, values);
}

/// Of each four of 32 values, the middle two change places: (row, column) to (column, row) of two rows and columns.
inline void transpose_squares(const uint16_t* values, uint64_t* out) {
  const __m512i swapped = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  _mm512_store_si512(out, _mm512_shuffle_epi8(_mm512_load_si512(values), swapped));
}

/// Adds x · Wᵀ for `rows` ≤ 12 rows and one panel (matrix.h). `ahead` (null: nothing) is called for meanwhile,
/// 64 bytes a step.
template <int rows>
inline void add_product(Floats (&sums)[rows][2], const uint16_t* x, int64_t stride, const uint16_t* panel, int64_t k,
                        const char* ahead) {
  const int64_t step = stride / 2;  // in pairs
  const auto* first = reinterpret_cast<const int32_t*>(x);
  const auto* second = first + (rows > 4 ? 4 * step : 0);
  const auto* third = first + (rows > 8 ? 8 * step : 0);
  const auto* w = reinterpret_cast<const __m512i*>(panel);
  for (int64_t pair = 0; pair < k / 2; ++pair) {
    const auto left = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w));
    const auto right = reinterpret_cast<__m512bh>(_mm512_loadu_si512(w + 1));
    w += 2;
    if (ahead != nullptr) _mm_prefetch(ahead + pair * 64, _MM_HINT_T1);
#pragma GCC unroll 12
    for (int row = 0; row < rows; ++row) {
      const int32_t* base = row < 4 ? first : row < 8 ? second : third;
      const auto value = reinterpret_cast<__m512bh>(_mm512_set1_epi32(base[(row % 4) * step]));
      sums[row][0] = _mm512_dpbf16_ps(sums[row][0], value, left);
      sums[row][1] = _mm512_dpbf16_ps(sums[row][1], value, right);
    }
    ++first;
    ++second;
    ++third;
  }
}

}  // namespace backburn::kernels::BACKBURN_VECTOR
