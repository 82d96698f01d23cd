#pragma once

#include <cstdint>

#include "backburn/kernels/matrix.h"

/// Attention of single queries over the keys of their past, which is short here (a prompt and an answer), without
/// scores in memory (Dao 2022, arXiv 2205.14135, has the gradient). head_dim is a multiple of 32, at the most 256. See
/// matrix.h for team_….
namespace backburn::kernels {

struct HeadShape {
  int64_t heads = 0, key_value_heads = 0, head_dim = 0;
  int64_t queries() const { return heads * head_dim; }
  int64_t keys() const { return key_value_heads * head_dim; }
  int64_t width() const { return queries() + 2 * keys(); }  ///< of a row [q k v]
};

/// Rows of [q k v] and what each of them sees: `shared` tokens from `shared_begin` on, and those from `own_begin` up to
/// itself.
struct Sight {
  int32_t shared_begin = 0, shared = 0, own_begin = 0;
};

/// out [tokens, heads × head_dim]; log_sums (null: not kept) [tokens, heads] f32: ln Σ exp(score), for the gradient.
void team_attend(const HeadShape& shape, int64_t tokens, const bf16* qkv, const Sight* sights, bf16* out,
                 float* log_sums);

/// Adds the gradient of qkv [tokens, width] f32. Tokens [trees[i], trees[i + 1]) see only each other: they are what
/// threads share out.
void team_attend_gradient(const HeadShape& shape, const int64_t* trees, int64_t tree_count, const bf16* qkv,
                          const Sight* sights, const bf16* out, const float* log_sums, const bf16* out_gradient,
                          float* qkv_gradient);

/// One decode step: puts the rows' new keys and values at place lengths[row] of the cache, and attends to all up to
/// there. qkv [rows, width]; keys, values [rows, key_value_heads, capacity, head_dim]; out and log_sums as in
/// team_attend.
void team_attend_cached(const HeadShape& shape, int64_t rows, const bf16* qkv, const int64_t* lengths, int64_t capacity,
                        bf16* keys, bf16* values, bf16* out, float* log_sums);

}  // namespace backburn::kernels
