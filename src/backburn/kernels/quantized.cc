#include "backburn/kernels/quantized.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "backburn/kernels/matrix_kernel.h"

namespace backburn::kernels {
namespace {

constexpr int64_t size = QuantizedMatrix::tile_size;
constexpr int64_t pairs = size / 2;
constexpr int64_t scale_bytes = size * 2;

// q of value `index` of one of ggml's blocks, the scale left out. Of 4 bits the low ones are values 0 … 15, 8 too
// large.
uint8_t value_of(BlockType type, const uint8_t* q, int64_t index) {
  if (type == BlockType::q8_0) return q[index];
  return index < 16 ? q[index] & 15 : q[index - 16] >> 4;
}

// A tile out of the blocks of `rows` rows, `stride` bytes apart. A pair of columns is [row, which of the two], as
// vdpbf16ps takes it. Of 4 bits, 8 rows' pairs share their bytes with those of the 8 rows below: the two halves of a
// register.
void pack_tile(BlockType type, const uint8_t* blocks, int64_t stride, int64_t rows, uint8_t* tile) {
  std::memset(tile, 0, static_cast<size_t>(size * block_bytes(type)));
  const bool bytes = type == BlockType::q8_0;
  if (!bytes) std::memset(tile + scale_bytes, 0x88, static_cast<size_t>(size * size / 2));
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* block = blocks + row * stride;
    std::memcpy(tile + 2 * row, block, 2);
    for (int64_t column = 0; column < size; ++column) {
      const uint8_t value = value_of(type, block + 2, column);
      uint8_t* pair = tile + scale_bytes + column / 2 * (bytes ? 2 * size : size);
      if (bytes) {
        pair[2 * row + column % 2] = value;
        continue;
      }
      uint8_t& both = pair[row / 16 * 16 + row % 8 * 2 + column % 2];
      both =
          row % 16 < 8 ? static_cast<uint8_t>((both & 0xF0) | value) : static_cast<uint8_t>((both & 15) | value << 4);
    }
  }
}

// Scales of rows 8 i … 8 i + 7, each twice: for both values of a pair.
struct Scales {
  __m512 rows[4];

  explicit Scales(const uint8_t* tile) {
    const __m512i low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    for (int half = 0; half < 2; ++half) {
      const __m512 scales = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile) + half));
      rows[2 * half] = _mm512_permutexvar_ps(low, scales);
      rows[2 * half + 1] = _mm512_permutexvar_ps(high, scales);
    }
  }
};

void store_pair(bf16* out, __m512 first, __m512 second) {
  _mm512_storeu_si512(out, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first)));
}

// A tile as a panel has it: 16 pairs of columns, of each the 32 rows.
void unpack_tile(BlockType type, const uint8_t* tile, bf16* out) {
  const Scales scales(tile);
  const auto* q = reinterpret_cast<const __m128i*>(tile + scale_bytes);
  if (type == BlockType::q4_0) {
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    for (int64_t pair = 0; pair < pairs; ++pair) {
      for (int half = 0; half < 2; ++half, out += size) {
        const __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128(q++));  // the look-up takes the low four bits alone
        store_pair(out, _mm512_mul_ps(_mm512_permutexvar_ps(both, values), scales.rows[2 * half]),
                   _mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(both, 4), values), scales.rows[2 * half + 1]));
      }
    }
    return;
  }
  for (int64_t pair = 0; pair < pairs; ++pair) {
    for (int half = 0; half < 2; ++half, out += size) {
      const __m512 first = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(q++)));
      const __m512 second = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(q++)));
      store_pair(out, _mm512_mul_ps(first, scales.rows[2 * half]), _mm512_mul_ps(second, scales.rows[2 * half + 1]));
    }
  }
}

// The same the other way round: 16 pairs of rows, of each the 32 columns.
void unpack_tile_transposed(BlockType type, const uint8_t* tile, bf16* out) {
  alignas(64) bf16 values[size * size];
  unpack_tile(type, tile, values);
  // Of two rows and two columns, (row, column) to (column, row).
  const __m512i swapped = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  alignas(64) uint64_t squares[pairs];  // of one pair of columns
  for (int64_t pair = 0; pair < pairs; ++pair) {
    for (int64_t half = 0; half < 2; ++half) {
      const __m512i found = _mm512_load_si512(values + pair * 2 * size + half * size);
      _mm512_store_si512(squares + 8 * half, _mm512_shuffle_epi8(found, swapped));
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

int64_t block_bytes(BlockType type) { return type == BlockType::q8_0 ? 2 + 32 : 2 + 16; }

void QuantizedMatrix::Free::operator()(uint8_t* data) const { std::free(data); }

QuantizedMatrix::QuantizedMatrix(BlockType type, const uint8_t* blocks, int64_t n, int64_t k)
    : type_(type), n_(n), k_(k) {
  const int64_t columns = column_tiles(), rows = row_tiles();
  const int64_t bytes = tile_bytes();  // a multiple of 64
  uint8_t* tiles = static_cast<uint8_t*>(std::aligned_alloc(64, static_cast<size_t>(rows * columns * bytes)));
  if (tiles == nullptr) throw std::bad_alloc();
  tiles_.reset(tiles);
  const int64_t block = block_bytes(type);
  const int64_t stride = columns * block;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t there = n - row * size < size ? n - row * size : size;
    for (int64_t column = 0; column < columns; ++column) {
      pack_tile(type, blocks + row * size * stride + column * block, stride, there,
                tiles + (row * columns + column) * bytes);
    }
  }
}

void QuantizedMatrix::unpack(int64_t begin, int64_t end, uint16_t* out) const {
#pragma omp parallel for schedule(static)
  for (int64_t row_tile = begin / size; row_tile < (end + size - 1) / size; ++row_tile) {
    alignas(64) bf16 values[size * size];
    for (int64_t column = 0; column < column_tiles(); ++column) {
      unpack_tile(type_, tile(row_tile, column), values);
      for (int64_t row = row_tile * size; row < (row_tile + 1) * size && row < end; ++row) {
        uint16_t* to = out + (row - begin) * k_ + column * size;
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

}  // namespace backburn::kernels
