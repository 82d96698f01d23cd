#include "backburn/kernels/attention.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "backburn/kernels/buffer.h"
#include "backburn/kernels/vector.h"

namespace backburn::kernels::BACKBURN_VECTOR {
namespace {

constexpr int most_registers = 8;  // of 32 bf16 values: head_dim 256

// Keys and values of neighbouring tokens.
struct Run {
  const bf16* keys;
  const bf16* values;
  int64_t stride;
  int64_t length;
};

template <int registers>
struct Vector {  // a head of bf16 values
  Pairs parts[registers];
  explicit Vector(const bf16* from) {
    for (int i = 0; i < registers; ++i) parts[i] = load_pairs(from + 32 * i);
  }
};

// 16 sums whose sum is the dot product.
template <int registers>
Floats products(const Vector<registers>& left, const bf16* right) {
  Floats sum = zeros();
  for (int i = 0; i < registers; ++i) {
    sum = add_dots(sum, left.parts[i], load_pairs(right + 32 * i));
  }
  return sum;
}

template <int registers>
float dot(const Vector<registers>& left, const bf16* right) {
  return reduce_add(products(left, right));
}

// Scores into [0, count), and −∞ up to the next multiple of 16.
template <int registers>
int64_t scores_of(const Vector<registers>& query, const Run* runs, int run_count, float scale, float* scores) {
  int64_t count = 0;
  for (int r = 0; r < run_count; ++r) {
    const bf16* key = runs[r].keys;
    const int64_t stride = runs[r].stride;
    int64_t left = runs[r].length;
    for (; left >= 16; left -= 16, key += 16 * stride, count += 16) {
      Floats sums[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) sums[i] = products(query, key + i * stride);
      store(scores + count, reduce_add(sums) * all(scale));
    }
    for (; left > 0; --left, key += stride) scores[count++] = dot(query, key) * scale;
  }
  for (int64_t i = count; i % 16 != 0; ++i) scores[i] = -std::numeric_limits<float>::infinity();
  return count;
}

// out = Σ weight · value for `heads` heads that see the same values; a head's weights are `stride` apart from the
// next's.
template <int registers, int heads>
void mix(const float* weights, int64_t stride, const Run* runs, int run_count, const float* totals, bf16* out) {
  Floats mixed[heads][2 * registers];
  for (auto& head : mixed) {
    for (auto& part : head) part = zeros();
  }
  for (int r = 0; r < run_count; ++r) {
    const bf16* value = runs[r].values;
    for (int64_t i = 0; i < runs[r].length; ++i, value += runs[r].stride, ++weights) {
      Floats parts[2 * registers];
      for (int j = 0; j < 2 * registers; ++j) parts[j] = load16(value + 16 * j);
#pragma GCC unroll 4
      for (int head = 0; head < heads; ++head) {
        const Floats weight = all(weights[head * stride]);
        for (int j = 0; j < 2 * registers; ++j) mixed[head][j] = fmadd(weight, parts[j], mixed[head][j]);
      }
    }
  }
  for (int head = 0; head < heads; ++head) {
    const Floats inverse = all(1.0F / totals[head]);
    for (int j = 0; j < 2 * registers; ++j, out += 16) store16(out, mixed[head][j] * inverse);
  }
}

// Turns scores [0, count) into exp(score − largest). Returns Σ of these, and the largest.
float softmax(float* scores, int64_t count, float& top) {
  Floats largest = all(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < count; i += 16) largest = max(largest, load(scores + i));
  top = reduce_max(largest);
  Floats total = zeros();
  for (int64_t i = 0; i < count; i += 16) {
    const Floats p = exp16(load(scores + i) - all(top));
    store(scores + i, p);
    total = total + p;
  }
  return reduce_add(total);
}

constexpr int most_heads = 4;  // whose values are mixed at a time: 16 registers of sums

template <int registers>
constexpr int64_t heads_at_once = vector_registers < 32 ? 1
                                  : registers <= 2      ? most_heads
                                  : registers <= 4      ? 2
                                                        : 1;

// Calls body with a number of heads, 1 to most_heads, as a compile-time constant.
template <class Body>
void with_heads(int64_t heads, const Body& body) {
  switch (heads) {
    case 1: return body(std::integral_constant<int, 1>());
    case 2: return body(std::integral_constant<int, 2>());
    case 3: return body(std::integral_constant<int, 3>());
    default: return body(std::integral_constant<int, most_heads>());
  }
}

// Floats that team functions need for the scores of up to `count` tokens.
int64_t scores_size(int64_t count) { return most_heads * (count + 16); }

// Attends with neighbouring heads that share keys and values: writes the heads, and (log_sums not null) ln Σ
// exp(score).
template <int registers>
void attend(const bf16* queries, int64_t heads, const Run* runs, int run_count, float scale, float* scores,
            int64_t scores_stride, bf16* out, float* log_sums) {
  constexpr int64_t head_dim = 32 * registers;
  for (int64_t first = 0; first < heads; first += heads_at_once<registers>) {
    const int64_t number = heads - first < heads_at_once<registers> ? heads - first : heads_at_once<registers>;
    float totals[most_heads];
    for (int64_t i = 0; i < number; ++i) {
      const int64_t head = first + i;
      float* own = scores + i * scores_stride;
      const int64_t count = scores_of(Vector<registers>(queries + head * head_dim), runs, run_count, scale, own);
      float top = 0;
      totals[i] = softmax(own, count, top);
      if (log_sums != nullptr) log_sums[head] = top + std::log(totals[i]);
    }
    bf16* to = out + first * head_dim;
    with_heads(number,
               [&](auto count) { mix<registers, count.value>(scores, scores_stride, runs, run_count, totals, to); });
  }
}

struct Gradients {
  float* queries;  // of the first head
  float* keys;     // of the first run's first token of the whole buffer: indexed by token
  float* values;
  int64_t stride;
};

// The same sums with values in the place of keys.
template <int registers>
void value_products(const Vector<registers>& slope, const Run* runs, int run_count, float* products) {
  Run swapped[2];
  for (int r = 0; r < run_count; ++r) swapped[r] = {runs[r].values, runs[r].keys, runs[r].stride, runs[r].length};
  scores_of(slope, swapped, run_count, 1.0F, products);
}

// Of `heads` neighbouring heads that share keys and values, so that those and their gradients are gone through once.
// scores: room for 2 · heads rows, `scores_stride` apart.
template <int registers, int heads>
void attend_gradient(const bf16* queries, const Run* runs, const int64_t* first_tokens, int run_count, float scale,
                     const float* log_sums, const bf16* out, const bf16* out_gradient, float* scores,
                     int64_t scores_stride, const Gradients& gradients) {
  constexpr int parts = 2 * registers;
  constexpr int64_t head_dim = 16 * parts;
  Floats query[heads][parts], slope[heads][parts], query_gradient[heads][parts];
  for (int head = 0; head < heads; ++head) {
    float* shares = scores + 2 * head * scores_stride;
    float* weights = shares + scores_stride;
    const Vector<registers> wanted(queries + head * head_dim), sloped(out_gradient + head * head_dim);
    const int64_t count = scores_of(wanted, runs, run_count, scale, shares);
    value_products(sloped, runs, run_count, weights);
    const Floats log_sum = all(log_sums[head]);
    const Floats mean = all(dot(sloped, out + head * head_dim));  // Σ p · (slope · value)
    for (int64_t i = 0; i < count; i += 16) {
      const Floats p = exp16(load(shares + i) - log_sum);
      const Floats above = load(weights + i) - mean;
      store(shares + i, p);
      store(weights + i, p * above * all(scale));
    }
    for (int j = 0; j < parts; ++j) {
      query[head][j] = load16(queries + head * head_dim + 16 * j);
      slope[head][j] = load16(out_gradient + head * head_dim + 16 * j);
      query_gradient[head][j] = zeros();
    }
  }
  const float* share = scores;
  for (int r = 0; r < run_count; ++r) {
    for (int64_t i = 0; i < runs[r].length; ++i, ++share) {
      const bf16* key = runs[r].keys + i * runs[r].stride;
      float* key_gradient = gradients.keys + (first_tokens[r] + i) * gradients.stride;
      float* value_gradient = gradients.values + (first_tokens[r] + i) * gradients.stride;
#pragma GCC unroll 16
      for (int j = 0; j < parts; ++j) {
        const Floats key_part = load16(key + 16 * j);
        Floats of_key = load(key_gradient + 16 * j);
        Floats of_value = load(value_gradient + 16 * j);
#pragma GCC unroll 4
        for (int head = 0; head < heads; ++head) {
          const Floats p = all(share[2 * head * scores_stride]);
          const Floats weight = all(share[(2 * head + 1) * scores_stride]);
          query_gradient[head][j] = fmadd(weight, key_part, query_gradient[head][j]);
          of_key = fmadd(weight, query[head][j], of_key);
          of_value = fmadd(p, slope[head][j], of_value);
        }
        store(key_gradient + 16 * j, of_key);
        store(value_gradient + 16 * j, of_value);
      }
    }
  }
  for (int head = 0; head < heads; ++head) {
    float* to = gradients.queries + head * head_dim;
    for (int j = 0; j < parts; ++j) {
      store(to + 16 * j, load(to + 16 * j) + query_gradient[head][j]);
    }
  }
}

// Calls body with the number of registers of a head as a compile-time constant.
template <class Body>
void with_registers(int64_t head_dim, const Body& body) {
  switch (head_dim / 32) {
    case 1: return body(std::integral_constant<int, 1>());
    case 2: return body(std::integral_constant<int, 2>());
    case 3: return body(std::integral_constant<int, 3>());
    case 4: return body(std::integral_constant<int, 4>());
    case 5: return body(std::integral_constant<int, 5>());
    case 6: return body(std::integral_constant<int, 6>());
    case 7: return body(std::integral_constant<int, 7>());
    default: return body(std::integral_constant<int, most_registers>());
  }
}

// What token sees, as runs of one key/value head.
struct Seen {
  Run runs[2];
  int64_t first_tokens[2];
  int64_t count() const { return runs[0].length + runs[1].length; }
};

Seen seen_by(const HeadShape& shape, const bf16* qkv, const Sight& sight, int64_t token, int64_t key_value_head) {
  const bf16* keys = qkv + shape.queries() + key_value_head * shape.head_dim;
  const int64_t width = shape.width();
  const auto run = [&](int64_t begin, int64_t length) {
    return Run{keys + begin * width, keys + shape.keys() + begin * width, width, length};
  };
  return {{run(sight.shared_begin, sight.shared), run(sight.own_begin, token + 1 - sight.own_begin)},
          {sight.shared_begin, sight.own_begin}};
}

}  // namespace

void team_attend(const HeadShape& shape, int64_t tokens, const bf16* qkv, const Sight* sights, bf16* out,
                 float* log_sums) {
  const int64_t repeat = shape.heads / shape.key_value_heads;
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  with_registers(shape.head_dim, [&](auto registers) {
    const Buffer<float> scores(scores_size(tokens));
#pragma omp for schedule(static, 8)
    for (int64_t token = 0; token < tokens; ++token) {
      for (int64_t key_value_head = 0; key_value_head < shape.key_value_heads; ++key_value_head) {
        const int64_t head = key_value_head * repeat;
        const Seen seen = seen_by(shape, qkv, sights[token], token, key_value_head);
        attend<registers.value>(qkv + token * shape.width() + head * shape.head_dim, repeat, seen.runs, 2, scale,
                                scores.get(), tokens + 16, out + token * shape.queries() + head * shape.head_dim,
                                log_sums == nullptr ? nullptr : log_sums + token * shape.heads + head);
      }
    }
  });
}

void team_attend_gradient(const HeadShape& shape, const int64_t* trees, int64_t tree_count, const bf16* qkv,
                          const Sight* sights, const bf16* out, const float* log_sums, const bf16* out_gradient,
                          float* qkv_gradient) {
  const int64_t repeat = shape.heads / shape.key_value_heads;
  const int64_t width = shape.width();
  with_registers(shape.head_dim, [&](auto registers) {
    const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
    const int64_t scores_stride = trees[tree_count] + 16;
    const Buffer<float> scores(2 * scores_size(trees[tree_count]));
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < tree_count * shape.key_value_heads; ++task) {
      const int64_t tree = task / shape.key_value_heads;
      const int64_t key_value_head = task % shape.key_value_heads;
      const int64_t end = (key_value_head + 1) * repeat;
      float* keys = qkv_gradient + shape.queries() + key_value_head * shape.head_dim;
      for (int64_t token = trees[tree]; token < trees[tree + 1]; ++token) {
        const Seen seen = seen_by(shape, qkv, sights[token], token, key_value_head);
        constexpr int64_t at_once = heads_at_once<registers.value>;
        for (int64_t head = key_value_head * repeat; head < end; head += at_once) {
          const int64_t at = token * shape.queries() + head * shape.head_dim;
          const int64_t place = token * width + head * shape.head_dim;
          const float* sums = log_sums + token * shape.heads + head;
          const bf16 *answer = out + at, *answer_gradient = out_gradient + at;
          with_heads(end - head < at_once ? end - head : at_once, [&](auto count) {
            attend_gradient<registers.value, count.value>(qkv + place, seen.runs, seen.first_tokens, 2, scale, sums,
                                                          answer, answer_gradient, scores.get(), scores_stride,
                                                          {qkv_gradient + place, keys, keys + shape.keys(), width});
          });
        }
      }
    }
  });
}

void team_attend_cached(const HeadShape& shape, int64_t rows, const bf16* qkv, const int64_t* lengths, int64_t capacity,
                        bf16* keys, bf16* values, bf16* out, float* log_sums) {
  const int64_t repeat = shape.heads / shape.key_value_heads;
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  const auto bytes = static_cast<size_t>(shape.head_dim) * sizeof(bf16);
  with_registers(shape.head_dim, [&](auto registers) {
    const Buffer<float> scores(scores_size(capacity));
#pragma omp for schedule(static)
    for (int64_t task = 0; task < rows * shape.key_value_heads; ++task) {
      const int64_t row = task / shape.key_value_heads;
      const int64_t key_value_head = task % shape.key_value_heads;
      const bf16* own = qkv + row * shape.width();
      bf16* held_keys = keys + task * capacity * shape.head_dim;
      bf16* held_values = values + task * capacity * shape.head_dim;
      const bf16* new_key = own + shape.queries() + key_value_head * shape.head_dim;
      std::memcpy(held_keys + lengths[row] * shape.head_dim, new_key, bytes);
      std::memcpy(held_values + lengths[row] * shape.head_dim, new_key + shape.keys(), bytes);
      const Run run{held_keys, held_values, shape.head_dim, lengths[row] + 1};
      const int64_t head = key_value_head * repeat;
      attend<registers.value>(own + head * shape.head_dim, repeat, &run, 1, scale, scores.get(), capacity + 16,
                              out + row * shape.queries() + head * shape.head_dim,
                              log_sums == nullptr ? nullptr : log_sums + row * shape.heads + head);
    }
  });
}

}  // namespace backburn::kernels::BACKBURN_VECTOR
