#pragma once

// See vector.h. The same operations as vector_avx512.h's, in the same order and rounded alike, in two registers of half
// the width; bf16 values are widened to f32 before they are multiplied.
#include <immintrin.h>

#include <cstdint>

#pragma GCC target("avx2,fma,f16c,bmi2")

#define BACKBURN_VECTOR avx2

/// 16 floats, or 16 pairs of bf16 values.
namespace backburn::kernels::BACKBURN_VECTOR {

struct Floats {
  __m256 low, high;
};

struct Pairs {  ///< widened
  Floats first, second;
};

using Mask = uint16_t;

constexpr int vector_registers = 8;  // as if each held 16 floats

inline Floats operator+(Floats a, Floats b) { return {a.low + b.low, a.high + b.high}; }
inline Floats operator-(Floats a, Floats b) { return {a.low - b.low, a.high - b.high}; }
inline Floats operator*(Floats a, Floats b) { return {a.low * b.low, a.high * b.high}; }
inline Floats operator/(Floats a, Floats b) { return {a.low / b.low, a.high / b.high}; }

inline Floats zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Floats all(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }

// All bits of those of 8 places whose bit is set.
inline __m256 places(int bits) {
  const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits), each), each));
}

inline Floats places_of(Mask mask) { return {places(mask), places(mask >> 8)}; }

inline Mask mask_of(Floats places) {
  return static_cast<Mask>(_mm256_movemask_ps(places.low) | _mm256_movemask_ps(places.high) << 8);
}

inline Floats choose(Mask mask, Floats where, Floats elsewhere) {
  const Floats chosen = places_of(mask);
  return {_mm256_blendv_ps(elsewhere.low, where.low, chosen.low),
          _mm256_blendv_ps(elsewhere.high, where.high, chosen.high)};
}

inline Floats load(const float* values) { return {_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)}; }

inline Floats load_or_zero(Mask mask, const float* values) {
  const Floats wanted = places_of(mask);
  return {_mm256_maskload_ps(values, _mm256_castps_si256(wanted.low)),
          _mm256_maskload_ps(values + 8, _mm256_castps_si256(wanted.high))};
}

inline Floats load_or(Floats other, Mask mask, const float* values) {
  return mask == 0xFFFF ? load(values) : choose(mask, load_or_zero(mask, values), other);
}

inline void store(float* out, Floats values) {
  _mm256_storeu_ps(out, values.low);
  _mm256_storeu_ps(out + 8, values.high);
}

inline void store(float* out, Mask mask, Floats values) {
  if (mask == 0xFFFF) return store(out, values);
  const Floats wanted = places_of(mask);
  _mm256_maskstore_ps(out, _mm256_castps_si256(wanted.low), values.low);
  _mm256_maskstore_ps(out + 8, _mm256_castps_si256(wanted.high), values.high);
}

inline Floats min(Floats a, Floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
inline Floats max(Floats a, Floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }

inline Floats fmadd(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

inline Floats fmsub(Floats a, Floats b, Floats c) {
  return {_mm256_fmsub_ps(a.low, b.low, c.low), _mm256_fmsub_ps(a.high, b.high, c.high)};
}

inline Floats fnmadd(Floats a, Floats b, Floats c) {
  return {_mm256_fnmadd_ps(a.low, b.low, c.low), _mm256_fnmadd_ps(a.high, b.high, c.high)};
}

inline Floats nearest(Floats a) {
  constexpr int how = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.low, how), _mm256_round_ps(a.high, how)};
}

inline __m256 power_of_2(__m256i exponent) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
}

// In two factors, since one alone may be no number although the product is.
inline __m256 times_power_of_2(__m256 a, __m256 n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  return a * power_of_2(half) * power_of_2(_mm256_sub_epi32(whole, half));
}

inline Floats times_power_of_2(Floats a, Floats n) {
  return {times_power_of_2(a.low, n.low), times_power_of_2(a.high, n.high)};
}

inline Mask greater(Floats a, Floats b) {
  return mask_of({_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ), _mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ)});
}

inline Mask not_a_number(Floats a) {
  return mask_of({_mm256_cmp_ps(a.low, a.low, _CMP_UNORD_Q), _mm256_cmp_ps(a.high, a.high, _CMP_UNORD_Q)});
}

inline Floats subtract_or(Floats other, Mask mask, Floats a, Floats b) {
  return mask == 0 ? other : choose(mask, a - b, other);
}

inline Floats subtract_or_zero(Mask mask, Floats a, Floats b) {
  return mask == 0xFFFF ? a - b : choose(mask, a - b, zeros());
}

// Halves and quarters of the sum: four numbers are left.
inline __m128 quarter_sums(Floats a) {
  const __m256 half = a.high + a.low;
  return _mm256_extractf128_ps(half, 1) + _mm256_castps256_ps128(half);
}

// Adds neighbouring pairs of two registers, the first's results before the second's.
inline __m128 fold_pairs(__m128 left, __m128 right) {
  const __m128d a = _mm_castps_pd(left), b = _mm_castps_pd(right);
  return _mm_castpd_ps(_mm_unpacklo_pd(a, b)) + _mm_castpd_ps(_mm_unpackhi_pd(a, b));
}

/// Σ in a fixed order: halves, quarters, then neighbours but one, then neighbours.
inline float reduce_add(Floats a) {
  const __m128 pairs = fold_pairs(quarter_sums(a), _mm_setzero_ps());
  return pairs[0] + pairs[1];
}

inline float reduce_add(Mask mask, Floats a) { return reduce_add(choose(mask, a, zeros())); }

inline float reduce_max(Floats a) {
  const __m256 half = _mm256_max_ps(a.high, a.low);
  const __m128 quarter = _mm_max_ps(_mm256_extractf128_ps(half, 1), _mm256_castps256_ps128(half));
  const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return pair[0] > pair[1] ? pair[0] : pair[1];
}

/// reduce_add of each of 16.
inline Floats reduce_add(const Floats (&sums)[16]) {
  __m128 found[4];
  for (int i = 0; i < 4; ++i) {
    const Floats* four = sums + 4 * i;
    const __m128 even = fold_pairs(quarter_sums(four[0]), quarter_sums(four[1]));
    const __m128 odd = fold_pairs(quarter_sums(four[2]), quarter_sums(four[3]));
    found[i] = _mm_shuffle_ps(even, odd, 0x88) + _mm_shuffle_ps(even, odd, 0xDD);
  }
  return {_mm256_set_m128(found[1], found[0]), _mm256_set_m128(found[3], found[2])};
}

inline __m256 widen(__m128i values) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(values), 16));
}

inline Floats load16(const uint16_t* values) {
  const auto* from = reinterpret_cast<const __m128i*>(values);
  return {widen(_mm_loadu_si128(from)), widen(_mm_loadu_si128(from + 1))};
}

inline Floats load16_or_zero(Mask mask, const uint16_t* values) {
  if (mask == 0xFFFF) return load16(values);
  alignas(32) uint16_t there[16] = {};
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) there[i] = values[i];
  }
  return load16(there);
}

// Rounded to bf16, half to even, in the upper 16 bits of each place; what lies below is of no use. Subnormal numbers
// become zeros, as vcvtneps2bf16 has it.
inline __m256i rounded_bits(__m256 values) {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i last = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 sign = _mm256_set1_ps(-0.0F);
  const __m256 size = _mm256_andnot_ps(sign, values);
  const __m256 tiny = _mm256_cmp_ps(size, _mm256_set1_ps(1.17549435e-38F), _CMP_LT_OQ);
  __m256 chosen = _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet),
                                   _mm256_cmp_ps(values, values, _CMP_UNORD_Q));
  chosen = _mm256_blendv_ps(chosen, _mm256_and_ps(sign, values), tiny);
  return _mm256_castps_si256(chosen);
}

inline void store16(uint16_t* out, Floats values) {
  const __m256i low = _mm256_srli_epi32(rounded_bits(values.low), 16);
  const __m256i high = _mm256_srli_epi32(rounded_bits(values.high), 16);
  // Packing goes by halves of the registers: the middle two quarters change places.
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8));
}

inline void store16(uint16_t* out, Mask mask, Floats values) {
  if (mask == 0xFFFF) return store16(out, values);
  alignas(32) uint16_t all_of_them[16];
  store16(all_of_them, values);
  for (int i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) out[i] = all_of_them[i];
  }
}

inline void store32(uint16_t* out, Floats first, Floats second) {
  store16(out, first);
  store16(out + 16, second);
}

inline __m256 upper_halves(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xFFFF0000))));
}

inline __m256 lower_halves(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }

/// Rounded to bf16 and back.
inline Floats rounded(Floats values) {
  return {upper_halves(rounded_bits(values.low)), upper_halves(rounded_bits(values.high))};
}

inline Pairs pairs_of(__m256i low, __m256i high) {
  return {{lower_halves(low), lower_halves(high)}, {upper_halves(low), upper_halves(high)}};
}

inline Pairs load_pairs(const uint16_t* values) {
  const auto* from = reinterpret_cast<const __m256i*>(values);
  return pairs_of(_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1));
}

inline Pairs all_pairs(int32_t pair) { return pairs_of(_mm256_set1_epi32(pair), _mm256_set1_epi32(pair)); }

/// (first[i], second[i]); second null: (first[i], 0).
inline Pairs zip_pairs(const uint16_t* first, const uint16_t* second) {
  return {load16(first), second == nullptr ? zeros() : load16(second)};
}

constexpr int outer_rows = 4;  ///< of a tile of team_outer_add: 8 registers of sums

inline void zip_pairs(const uint16_t* first, const uint16_t* second, int32_t (&out)[outer_rows]) {
  const __m128i left = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(first));
  const __m128i right =
      second == nullptr ? _mm_setzero_si128() : _mm_loadl_epi64(reinterpret_cast<const __m128i*>(second));
  _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm_unpacklo_epi16(left, right));
}

/// sum + a · b of each pair, the second of a pair first.
inline Floats add_dots(Floats sum, Pairs a, Pairs b) { return fmadd(a.first, b.first, fmadd(a.second, b.second, sum)); }

/// What quantised values need. 16 bytes as numbers.
inline Floats signed_bytes(const uint8_t* bytes) {
  const __m128i found = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(found)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(found, 8)))};
}

inline Floats bytes_less_8(__m128i bytes) {
  const __m256i eight = _mm256_set1_epi32(8);
  return {_mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(bytes), eight)),
          _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)), eight))};
}

/// The low and the high four bits of 16 bytes, less 8.
inline void split_bytes(const uint8_t* bytes, Floats& low, Floats& high) {
  const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m128i four_bits = _mm_set1_epi8(15);
  low = bytes_less_8(_mm_and_si128(both, four_bits));
  high = bytes_less_8(_mm_and_si128(_mm_srli_epi16(both, 4), four_bits));
}

/// 16 half precision values, each twice.
inline void load_halves_twice(const uint8_t* halves, Floats& first, Floats& second) {
  const auto* from = reinterpret_cast<const __m128i*>(halves);
  const __m256 low = _mm256_cvtph_ps(_mm_loadu_si128(from)), high = _mm256_cvtph_ps(_mm_loadu_si128(from + 1));
  const __m256i left = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3), right = _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7);
  first = {_mm256_permutevar8x32_ps(low, left), _mm256_permutevar8x32_ps(low, right)};
  second = {_mm256_permutevar8x32_ps(high, left), _mm256_permutevar8x32_ps(high, right)};
}

/// Of each four of 32 values, the middle two change places: (row, column) to (column, row) of two rows and columns.
inline void transpose_squares(const uint16_t* values, uint64_t* out) {
  const __m256i swapped =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  const auto* from = reinterpret_cast<const __m256i*>(values);
  auto* to = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_shuffle_epi8(_mm256_loadu_si256(from), swapped));
  _mm256_storeu_si256(to + 1, _mm256_shuffle_epi8(_mm256_loadu_si256(from + 1), swapped));
}

constexpr int64_t range = 256;  // of k: so much of a tile's x is widened at a time, and stays in the first-level cache

// Adds `rows` × 8 · columns of the product, in registers. x: widened rows, `range` apart. w: the first of these columns
// in the panel's first pair.
template <int rows, int columns>
inline void add_block(__m256 (&sums)[rows][columns], const float* x, const __m256i* w, int64_t pairs,
                      const char* ahead) {
  for (int64_t pair = 0; pair < pairs; ++pair, w += 4, x += 2) {
    if (ahead != nullptr) _mm_prefetch(ahead + pair * 64, _MM_HINT_T1);
    __m256 parts[columns];
#pragma GCC unroll 4
    for (int j = 0; j < columns; ++j) parts[j] = upper_halves(_mm256_loadu_si256(w + j));
#pragma GCC unroll 6
    for (int row = 0; row < rows; ++row) {
      const __m256 value = _mm256_broadcast_ss(x + row * range + 1);
#pragma GCC unroll 4
      for (int j = 0; j < columns; ++j) sums[row][j] = _mm256_fmadd_ps(value, parts[j], sums[row][j]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < columns; ++j) parts[j] = lower_halves(_mm256_loadu_si256(w + j));
#pragma GCC unroll 6
    for (int row = 0; row < rows; ++row) {
      const __m256 value = _mm256_broadcast_ss(x + row * range);
#pragma GCC unroll 4
      for (int j = 0; j < columns; ++j) sums[row][j] = _mm256_fmadd_ps(value, parts[j], sums[row][j]);
    }
  }
}

// `rows` rows of a tile: up to two take all 32 columns at a time, more of them 16 after 16.
template <int rows>
inline void add_rows(Floats (*sums)[2], const float* x, const __m256i* w, int64_t pairs, const char* ahead) {
  constexpr int columns = rows <= 2 ? 4 : 2;
  for (int first = 0; first < 4; first += columns) {
    __m256 block[rows][columns];
#pragma GCC unroll 6
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 2
      for (int half = 0; half < columns / 2; ++half) {
        block[row][2 * half] = sums[row][first / 2 + half].low;
        block[row][2 * half + 1] = sums[row][first / 2 + half].high;
      }
    }
    add_block<rows, columns>(block, x, w + first, pairs, first == 0 ? ahead : nullptr);
#pragma GCC unroll 6
    for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 2
      for (int half = 0; half < columns / 2; ++half) {
        sums[row][first / 2 + half] = {block[row][2 * half], block[row][2 * half + 1]};
      }
    }
  }
}

/// Adds x · Wᵀ for `rows` ≤ 12 rows and one panel (matrix.h). `ahead` (null: nothing) is called for meanwhile, 64 bytes
/// a step.
template <int rows>
inline void add_product(Floats (&sums)[rows][2], const uint16_t* x, int64_t stride, const uint16_t* panel, int64_t k,
                        const char* ahead) {
  constexpr int upper = rows <= 6 ? rows : (rows + 1) / 2;
  alignas(32) float widened[rows * range];
  const auto* w = reinterpret_cast<const __m256i*>(panel);
  for (int64_t begin = 0; begin < k; begin += range, x += range, w += 2 * range) {
    const int64_t count = k - begin < range ? k - begin : range;
    for (int row = 0; row < rows; ++row) {
      const uint16_t* from = x + row * stride;
      int64_t i = 0;
      for (; i + 16 <= count; i += 16) store(widened + row * range + i, load16(from + i));
      for (; i < count; ++i) widened[row * range + i] = _mm256_cvtss_f32(widen(_mm_cvtsi32_si128(from[i])));
    }
    const char* next = ahead == nullptr ? nullptr : ahead + begin * 32;
    add_rows<upper>(sums, widened, w, count / 2, next);
    if constexpr (upper < rows) add_rows<rows - upper>(sums + upper, widened + upper * range, w, count / 2, nullptr);
  }
}

}  // namespace backburn::kernels::BACKBURN_VECTOR
