#include "backburn/kernels/matrix.h"

#include "backburn/kernels/matrix_kernel.h"

namespace backburn::kernels::BACKBURN_VECTOR {
namespace {

Floats biased(Floats values, const float* bias, int64_t column, Mask mask) {
  return bias == nullptr ? values : values + load_or_zero(mask, bias + column);
}

}  // namespace

void team_multiply(int64_t m, const Terms& terms, const float* bias, bf16* y, int64_t stride) {
  const int64_t n = terms.first.w->n();
  team_product(m, terms, [=](int64_t row, int64_t column, Floats left, Floats right) {
    const Mask first = columns_below(n, column);
    const Mask second = columns_below(n, column + 16);
    bf16* out = y + row * stride + column;
    store16(out, first, biased(left, bias, column, first));
    store16(out + 16, second, biased(right, bias, column + 16, second));
  });
}

void team_multiply_f32(int64_t m, const Terms& terms, float* y, int64_t stride) {
  const int64_t n = terms.first.w->n();
  team_product(m, terms, [=](int64_t row, int64_t column, Floats left, Floats right) {
    float* out = y + row * stride + column;
    store(out, columns_below(n, column), left);
    store(out + 16, columns_below(n, column + 16), right);
  });
}

void team_multiply_add(int64_t m, const Terms& terms, float* y, int64_t stride) {
  const int64_t n = terms.first.w->n();
  team_product(m, terms, [=](int64_t row, int64_t column, Floats left, Floats right) {
    float* out = y + row * stride + column;
    const Mask first = columns_below(n, column);
    const Mask second = columns_below(n, column + 16);
    store(out, first, left + load_or_zero(first, out));
    store(out + 16, second, right + load_or_zero(second, out + 16));
  });
}

void team_multiply_residual(int64_t m, const Terms& terms, const float* bias, const bf16* residual, bf16* out,
                            int64_t stride) {
  const int64_t n = terms.first.w->n();
  team_product(m, terms, [=](int64_t row, int64_t column, Floats left, Floats right) {
    const int64_t at = row * stride + column;
    const Floats halves[2] = {left, right};
    for (int half = 0; half < 2; ++half) {
      const Mask mask = columns_below(n, column + 16 * half);
      const Floats product = rounded(biased(halves[half], bias, column + 16 * half, mask));
      store16(out + at + 16 * half, mask, load16_or_zero(mask, residual + at + 16 * half) + product);
    }
  });
}

void team_multiply_swiglu(int64_t m, const Terms& terms, bf16* gate_up, bf16* out, int64_t inner) {
  team_product(m, terms, [=](int64_t row, int64_t column, Floats gate, Floats up) {
    if (gate_up != nullptr) {
      bf16* kept = gate_up + row * 2 * inner + column;
      store16(kept, gate);
      store16(kept + 16, up);
    }
    // Rounded where the layer by layer model rounds.
    gate = rounded(gate);
    const Floats activated = rounded(gate * sigmoid16(gate));
    store16(out + row * inner + column / 2, activated * rounded(up));
  });
}

void team_outer_add(int64_t tokens, const bf16* y, int64_t y_stride, int64_t n, int64_t group_step, const bf16* low,
                    int64_t low_stride, int64_t r, float scale, float* out, int64_t row_step, int64_t column_step) {
  constexpr int block = outer_rows;  // columns of y at a time, and 16 of low
  const int64_t blocks = n / block;
#pragma omp for schedule(static)
  for (int64_t i = 0; i < blocks * (r / 16); ++i) {
    const int64_t column = (i % blocks) * block;
    const int64_t low_column = (i / blocks) * 16;
    Floats sums[block];
    for (auto& sum : sums) sum = zeros();
    for (int64_t token = 0; token < tokens; token += 2) {
      const bool last = token + 1 == tokens;
      // (this token's, the next one's) of each column
      const bf16* from = low + token * low_stride + low_column;
      const Pairs lows = zip_pairs(from, last ? nullptr : from + low_stride);
      const bf16* at = y + token * y_stride + column / 16 * group_step + column % 16;
      alignas(32) int32_t pairs[block];
      zip_pairs(at, last ? nullptr : at + y_stride, pairs);
#pragma GCC unroll 8
      for (int j = 0; j < block; ++j) sums[j] = add_dots(sums[j], all_pairs(pairs[j]), lows);
    }
    for (int j = 0; j < block; ++j) {
      alignas(64) float values[16];
      store(values, sums[j] * all(scale));
      float* to = out + (column + j) * row_step + low_column * column_step;
      for (int64_t c = 0; c < 16; ++c) to[c * column_step] += values[c];
    }
  }
}

}  // namespace backburn::kernels::BACKBURN_VECTOR
