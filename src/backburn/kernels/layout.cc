// How matrices are laid out in memory, the same for every instruction set.
#include <cstdlib>
#include <cstring>
#include <new>

#include "backburn/kernels/huge_pages.h"
#include "backburn/kernels/matrix.h"
#include "backburn/kernels/quantized.h"

namespace backburn::kernels {
namespace {

constexpr int64_t size = QuantizedMatrix::tile_size;
constexpr int64_t scale_bytes = size * 2;

std::shared_ptr<bf16[]> on_heap(int64_t count) {
  auto* data = static_cast<bf16*>(std::aligned_alloc(64, static_cast<size_t>(count) * sizeof(bf16)));
  if (data == nullptr) throw std::bad_alloc();
  return {data, std::free};
}

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

}  // namespace backburn::kernels
