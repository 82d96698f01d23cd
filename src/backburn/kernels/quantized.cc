#include "backburn/kernels/quantized.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "backburn/kernels/matrix_kernel.h"

namespace backburn::kernels::BACKBURN_VECTOR {
namespace {

constexpr int64_t size = QuantizedMatrix::tile_size;
constexpr int64_t pairs = size / 2;
constexpr int64_t scale_bytes = size * 2;

// Scales of rows 8 i … 8 i + 7, each twice: for both values of a pair.
struct Scales {
  Floats rows[4];

  explicit Scales(const uint8_t* tile) {
    load_halves_twice(tile, rows[0], rows[1]);
    load_halves_twice(tile + size, rows[2], rows[3]);
  }
};

// A tile as a panel has it: 16 pairs of columns, of each the 32 rows.
template <BlockType type>
void unpack_tile_of(const uint8_t* tile, bf16* out) {
  const Scales scales(tile);
  const uint8_t* q = tile + scale_bytes;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    for (int half = 0; half < 2; ++half, out += size) {
      Floats first, second;
      if constexpr (type == BlockType::q4_0) {
        split_bytes(q, first, second);
        q += 16;
      } else {
        first = signed_bytes(q);
        second = signed_bytes(q + 16);
        q += 32;
      }
      store32(out, first * scales.rows[2 * half], second * scales.rows[2 * half + 1]);
    }
  }
}

void unpack_tile(BlockType type, const uint8_t* tile, bf16* out) {
  if (type == BlockType::q4_0) return unpack_tile_of<BlockType::q4_0>(tile, out);
  unpack_tile_of<BlockType::q8_0>(tile, out);
}

// The same the other way round: 16 pairs of rows, of each the 32 columns.
void unpack_tile_transposed(BlockType type, const uint8_t* tile, bf16* out) {
  alignas(64) bf16 values[size * size];
  unpack_tile(type, tile, values);
  alignas(64) uint64_t squares[pairs];  // of one pair of columns
  for (int64_t pair = 0; pair < pairs; ++pair) {
    for (int64_t half = 0; half < 2; ++half) {
      transpose_squares(values + pair * 2 * size + half * size, squares + 8 * half);
    }
    for (int64_t row = 0; row < pairs; ++row) std::memcpy(out + row * 2 * size + 4 * pair, squares + row, 8);
  }
}

// Memory of this thread that lasts from one panel to the next.
struct Room {
  bf16* data = nullptr;
  int64_t count = 0;

  bf16* of(int64_t wanted) {
    if (wanted > count) {
      std::free(data);
      count = 0;
      data = static_cast<bf16*>(std::aligned_alloc(64, static_cast<size_t>(wanted) * sizeof(bf16)));
      if (data == nullptr) throw std::bad_alloc();
      count = wanted;
    }
    return data;
  }
  ~Room() { std::free(data); }
};

}  // namespace

void unpack_rows(const QuantizedMatrix& matrix, int64_t begin, int64_t end, bf16* out) {
#pragma omp parallel for schedule(static)
  for (int64_t row_tile = begin / size; row_tile < (end + size - 1) / size; ++row_tile) {
    alignas(64) bf16 values[size * size];
    for (int64_t column = 0; column < matrix.column_tiles(); ++column) {
      unpack_tile(matrix.type(), matrix.tile(row_tile, column), values);
      for (int64_t row = row_tile * size; row < (row_tile + 1) * size && row < end; ++row) {
        bf16* to = out + (row - begin) * matrix.k() + column * size;
        for (int64_t pair = 0; pair < pairs; ++pair)
          std::memcpy(to + 2 * pair, values + (pair * size + row % size) * 2, 4);
      }
    }
  }
}

void unpack_range(const PackedMatrix& w, int64_t panel, int64_t k_begin, int64_t k, bf16* out) {
  const QuantizedMatrix& matrix = *w.quantized();
  for (int64_t at = k_begin / size; at < (k_begin + k + size - 1) / size; ++at, out += size * size) {
    if (w.is_transposed()) {
      unpack_tile_transposed(matrix.type(), matrix.tile(at, panel), out);
    } else {
      unpack_tile(matrix.type(), matrix.tile(panel, at), out);
    }
  }
}

const bf16* unpacked_range(const PackedMatrix& w, int64_t panel, int64_t k_begin, int64_t k) {
  static thread_local Room room;
  bf16* values = room.of((k + size - 1) / size * size * size);
  unpack_range(w, panel, k_begin, k, values);
  return values;
}

}  // namespace backburn::kernels::BACKBURN_VECTOR
