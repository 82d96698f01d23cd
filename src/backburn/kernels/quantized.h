#pragma once

#include <cstdint>
#include <memory>

namespace backburn::kernels {

/// How values are held in a quarter or half of bf16's bits: 32 neighbours of a row share a scale d, a half; each is d ·
/// q, with q in 8 bits (−128 … 127) or 4 (−8 … 7). ggml's types of the same names.
enum class BlockType { q8_0, q4_0 };

/// Bytes of 32 values.
int64_t block_bytes(BlockType type);

/// A matrix [n, k] held so, in tiles of 32 × 32 that are unpacked while they are multiplied. The value that counts is
/// d · q rounded to bf16, the same in a product and in its gradient: both read the same tiles.
class QuantizedMatrix {
 public:
  static constexpr int64_t tile_size = 32;  ///< rows and columns

  /// Takes ggml's own blocks: n rows of k / 32, one row after the other. k is a multiple of 32.
  QuantizedMatrix(BlockType type, const uint8_t* blocks, int64_t n, int64_t k);

  BlockType type() const { return type_; }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int64_t row_tiles() const { return (n_ + tile_size - 1) / tile_size; }
  int64_t column_tiles() const { return k_ / tile_size; }
  /// 32 scales, a half for each row, then q of one pair of neighbouring columns after the other. Rows beyond n are
  /// zero.
  const uint8_t* tile(int64_t row_tile, int64_t column_tile) const {
    return tiles_.get() + (row_tile * column_tiles() + column_tile) * tile_bytes();
  }

  /// Row-major rows [begin, end) in bf16, both multiples of 32 or n.
  void unpack(int64_t begin, int64_t end, uint16_t* out) const;

 private:
  int64_t tile_bytes() const { return tile_size * block_bytes(type_); }

  struct Free {
    void operator()(uint8_t* data) const;
  };
  BlockType type_;
  int64_t n_, k_;
  std::unique_ptr<uint8_t[], Free> tiles_;
};

}  // namespace backburn::kernels
