#pragma once

#include <omp.h>

#include "backburn/kernels/matrix.h"
#include "backburn/kernels/vector.h"

// The product itself, for this room's .cc files: what happens with each tile of the result is a parameter.
namespace backburn::kernels::BACKBURN_VECTOR {

constexpr int tile_rows = 12;  // × 2 registers of 16 columns, beside the two of W: 26 of 32 with AVX-512

/// Columns [k_begin, k_begin + k) of one panel of a quantised matrix; k_begin is a multiple of 32. There is room for k
/// rounded up to a multiple of 32.
void unpack_range(const PackedMatrix& w, int64_t panel, int64_t k_begin, int64_t k, bf16* out);

/// The same, until this thread asks again.
const bf16* unpacked_range(const PackedMatrix& w, int64_t panel, int64_t k_begin, int64_t k);

// The same sums, in the same order, out of a quantised matrix: its tiles never leave the first-level cache.
template <int rows>
inline void add_quantized_product(Floats (&sums)[rows][2], const bf16* x, int64_t stride, const PackedMatrix& w,
                                  int64_t panel) {
  constexpr int64_t size = QuantizedMatrix::tile_size;
  alignas(64) bf16 values[size * size];
  for (int64_t at = 0; at < w.k(); at += size) {
    const int64_t k = w.k() - at < size ? w.k() - at : size;
    unpack_range(w, panel, at, k, values);
    add_product<rows>(sums, x + at, stride, values, k, nullptr);
  }
}

// values: the panel; null: unpacked tile by tile.
template <int rows, class Finish>
inline void tile(const Terms& terms, int64_t row, int64_t panel, const bf16* values, const char* ahead,
                 const Finish& finish) {
  Floats sums[rows][2];
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i) sums[i][0] = sums[i][1] = zeros();
  const Term& a = terms.first;
  if (values != nullptr) {
    add_product<rows>(sums, a.x + row * a.stride, a.stride, values, a.w->k(), ahead);
  } else {
    add_quantized_product<rows>(sums, a.x + row * a.stride, a.stride, *a.w, panel);
  }
  if (terms.second.w != nullptr) {
    const Term& b = terms.second;
    add_product<rows>(sums, b.x + row * b.stride, b.stride, b.w->panel(panel), b.w->k(), nullptr);
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i) finish(row + i, panel * PackedMatrix::panel_rows, sums[i][0], sums[i][1]);
}

template <class Finish>
inline void tile_of(int64_t rows, const Terms& terms, int64_t row, int64_t panel, const bf16* values, const char* ahead,
                    const Finish& finish) {
  switch (rows) {
    case 1: return tile<1>(terms, row, panel, values, ahead, finish);
    case 2: return tile<2>(terms, row, panel, values, ahead, finish);
    case 3: return tile<3>(terms, row, panel, values, ahead, finish);
    case 4: return tile<4>(terms, row, panel, values, ahead, finish);
    case 5: return tile<5>(terms, row, panel, values, ahead, finish);
    case 6: return tile<6>(terms, row, panel, values, ahead, finish);
    case 7: return tile<7>(terms, row, panel, values, ahead, finish);
    case 8: return tile<8>(terms, row, panel, values, ahead, finish);
    case 9: return tile<9>(terms, row, panel, values, ahead, finish);
    case 10: return tile<10>(terms, row, panel, values, ahead, finish);
    case 11: return tile<11>(terms, row, panel, values, ahead, finish);
    default: return tile<12>(terms, row, panel, values, ahead, finish);
  }
}

// Rows [begin, end) of one panel.
template <class Finish>
inline void panel_rows(int64_t begin, int64_t end, const Terms& terms, int64_t panel, bool stream,
                       const Finish& finish) {
  const int64_t rows = end - begin;
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  const PackedMatrix& w = *terms.first.w;
  // The first tiles call for the next panel, which would else come from memory while nothing is multiplied. A single
  // tile leaves that to the processor: it reads one panel after the other anyhow, and is slower with two places to read
  // from.
  const char* next = stream && tiles > 1 && !w.quantized() && panel + 1 < w.panels()
                         ? reinterpret_cast<const char*>(w.panel(panel + 1))
                         : nullptr;
  const bf16* values = !w.quantized() ? w.panel(panel) : tiles > 1 ? unpacked_range(w, panel, 0, w.k()) : nullptr;
  for (int64_t i = 0; i < tiles; ++i) {
    // Tiles of nearly equal height: 32 rows are 11 + 11 + 10.
    const int64_t from = begin + rows * i / tiles;
    const int64_t to = begin + rows * (i + 1) / tiles;
    const char* ahead = next != nullptr && i < 2 ? next + i * w.k() * 32 : nullptr;
    tile_of(to - from, terms, from, panel, values, ahead, finish);
  }
}

// In how many blocks m rows are taken: so many that a block's x stays in the second-level cache while the panels pass
// by; where there are too few panels to share out evenly (a low-rank product has one or two), their number is a
// multiple of the threads'.
inline int64_t blocks_of(int64_t m, int64_t panels) {
  constexpr int64_t block_rows = 240;
  const int64_t threads = omp_get_num_threads();
  const int64_t blocks = (m + block_rows - 1) / block_rows;
  if (panels % threads == 0 || panels >= 4 * threads) return blocks;
  const int64_t even = (blocks + threads - 1) / threads * threads;
  return even < m ? even : m;
}

// The whole product. Finish: (row, first column, 16 sums, the next 16 sums).
template <class Finish>
inline void team_product(int64_t m, const Terms& terms, const Finish& finish) {
  const int64_t panels = terms.first.w->panels();
  const int64_t blocks = blocks_of(m, panels);
#pragma omp for schedule(static)
  for (int64_t i = 0; i < blocks * panels; ++i) {
    const int64_t block = i / panels;
    panel_rows(m * block / blocks, m * (block + 1) / blocks, terms, i % panels, blocks == 1, finish);
  }
}

}  // namespace backburn::kernels::BACKBURN_VECTOR
