#include "backburn/kernels/vocabulary.h"

#include <omp.h>

#include <cmath>
#include <limits>

#include "backburn/kernels/buffer.h"
#include "backburn/kernels/matrix_kernel.h"

namespace backburn::kernels::BACKBURN_VECTOR {
namespace {

constexpr int64_t panel_width = PackedMatrix::panel_rows;
constexpr int64_t forward_rows = 192;   // rows at a time, whose hidden states stay in the second-level cache
constexpr int64_t gradient_rows = 120;  // fewer: slopes and sums stay there too
constexpr int64_t chunk = 1024;         // columns of the vocabulary whose slopes are held at a time
// Not a power of two, so that a tile's rows don't all want the same few lines of the first-level cache.
constexpr int64_t slope_stride = chunk + 32;
constexpr float lowest = -1e30F;      // below every logit, yet finite
constexpr float vanishing = -104.0F;  // exp16 of it is 0

// Shares rows out in blocks of nearly equal size, the same number for every thread.
template <class Body>
void for_row_blocks(int64_t rows, int64_t largest, const Body& body) {
  const int64_t threads = omp_get_num_threads();
  int64_t blocks = (rows + largest - 1) / largest;
  blocks = (blocks + threads - 1) / threads * threads;
  if (blocks > rows) blocks = rows;
#pragma omp for schedule(static)
  for (int64_t i = 0; i < blocks; ++i) body(rows * i / blocks, rows * (i + 1) / blocks);
}

// The place of `target` among the 32 columns from `column` on as a bit, none if it isn't one of them.
uint32_t place_of(int64_t target, int64_t column) {
  const auto place = static_cast<uint64_t>(target - column);
  return place < 32 ? 1U << place : 0U;
}

// Of one row, over the columns so far, with x = (logit − largest) · factor: Σ exp x, and Σ exp x · (something). Logits
// are those before the temperature (factor: 1 / temperature), since only then are the differences exact.
struct alignas(64) Running {
  Floats sum, weighted;
  float largest;

  void clear() {
    sum = weighted = zeros();
    largest = lowest;
  }
};

// What a running sum is weighted with: x, so that it shifts with the largest, or something else.
enum class Weight { logit, other };

template <Weight weight>
__attribute__((noinline)) void raise(Running& running, Floats logits, float factor) {
  const float larger = reduce_max(logits);
  const Floats shift = all((running.largest - larger) * factor);
  const Floats scale = exp16(shift);
  if (weight == Weight::logit) running.weighted = fmadd(shift, running.sum, running.weighted);
  running.weighted = running.weighted * scale;
  running.sum = running.sum * scale;
  running.largest = larger;
}

// Adds 32 logits (−∞: none there).
template <Weight weight>
inline void add_logits(Running& running, Floats left, Floats right, float factor, const Floats* weights) {
  const Floats both = max(left, right);
  if (greater(both, all(running.largest)) != 0) raise<weight>(running, both, factor);
  const Floats largest = all(running.largest);
  const Floats floor = all(vanishing);
  const Floats by = all(factor);
  left = max(floor, (left - largest) * by);
  right = max(floor, (right - largest) * by);
  const Floats first = exp16(left);
  const Floats second = exp16(right);
  running.sum = running.sum + (first + second);
  const Floats product = first * (weight == Weight::logit ? left : weights[0]);
  running.weighted = running.weighted + fmadd(second, weight == Weight::logit ? right : weights[1], product);
}

double sum_of(Floats values) {
  alignas(64) float lanes[16];
  store(lanes, values);
  double sum = 0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  return sum;
}

// ln π of the token with that logit, the entropy of π, and ln Z.
void describe(const Running& running, float logit, float factor, float& logprob, float& entropy, float& normalizer) {
  const double sum = sum_of(running.sum);
  const double above = std::log(sum);
  const auto by = static_cast<double>(factor), largest = static_cast<double>(running.largest);
  logprob = static_cast<float>((static_cast<double>(logit) - largest) * by - above);
  entropy = static_cast<float>(above - sum_of(running.weighted) / sum);
  normalizer = static_cast<float>(largest * by + above);
}

// Only the last panel has columns that aren't there: −∞.
inline void mark_missing(int64_t vocabulary, int64_t column, Floats& left, Floats& right) {
  if (column + panel_width <= vocabulary) return;
  const Floats none = all(-std::numeric_limits<float>::infinity());
  left = choose(columns_below(vocabulary, column), left, none);
  right = choose(columns_below(vocabulary, column + 16), right, none);
}

// Calls body with the number of rows as a type: 1 to 12.
template <int count>
struct Rows {
  static constexpr int value = count;
};

template <int count = tile_rows, class Body>
inline void with_rows(int64_t rows, const Body& body) {
  if constexpr (count > 1) {
    if (rows < count) return with_rows<count - 1>(rows, body);
  }
  body(Rows<count>());
}

// sums [rows, w.padded_n()] += slopes [rows, k] · W[:, k_begin : k_begin + k]ᵀ. In a panel those k lie together.
void add_range(int64_t rows, const bf16* slopes, const PackedMatrix& w, int64_t k_begin, int64_t k, float* sums) {
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  for (int64_t panel = 0; panel < w.panels(); ++panel) {
    const bf16* part = w.quantized() ? unpacked_range(w, panel, k_begin, k) : w.panel(panel) + k_begin * panel_width;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t from = rows * i / tiles;
      float* to = sums + from * w.padded_n() + panel * panel_width;
      const char* next = !w.quantized() && panel + 1 < w.panels() && i < 2
                             ? reinterpret_cast<const char*>(w.panel(panel + 1) + k_begin * panel_width) + i * k * 32
                             : nullptr;
      with_rows(rows * (i + 1) / tiles - from, [=, &w](auto number) {
        constexpr int height = decltype(number)::value;
        Floats tile[height][2];
#pragma GCC unroll 12
        for (int row = 0; row < height; ++row) {
          tile[row][0] = load(to + row * w.padded_n());
          tile[row][1] = load(to + row * w.padded_n() + 16);
        }
        add_product<height>(tile, slopes + from * slope_stride, slope_stride, part, k, next);
#pragma GCC unroll 12
        for (int row = 0; row < height; ++row) {
          store(to + row * w.padded_n(), tile[row][0]);
          store(to + row * w.padded_n() + 16, tile[row][1]);
        }
      });
    }
  }
}

// gradient rows [begin, end) = slopes · head, chunk by chunk. make_slopes: (panel, where its first row's 32 slopes go).
template <class MakeSlopes>
void slopes_times_head(int64_t begin, int64_t end, int64_t stride, const PackedMatrix& head,
                       const PackedMatrix& head_transposed, bf16* slopes, float* sums, bf16* gradient,
                       const MakeSlopes& make_slopes) {
  const int64_t vocabulary = head.n();
  const int64_t padded = head_transposed.padded_n();
  for (int64_t i = 0; i < (end - begin) * padded; ++i) sums[i] = 0;
  for (int64_t from = 0; from < vocabulary; from += chunk) {
    const int64_t columns = vocabulary - from < chunk ? vocabulary - from : chunk;
    for (int64_t column = 0; column < columns; column += panel_width) {
      make_slopes((from + column) / panel_width, slopes + column);
    }
    add_range(end - begin, slopes, head_transposed, from, columns, sums);
  }
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t column = 0; column < head_transposed.n(); column += 16) {
      const Floats values = load(sums + (row - begin) * padded + column);
      store16(gradient + row * stride + column, columns_below(head_transposed.n(), column), values);
    }
  }
}

}  // namespace

void team_token_logprobs(int64_t rows, const bf16* hidden, int64_t stride, const PackedMatrix& head,
                         const int64_t* targets, float temperature, float* logprobs, float* entropies,
                         float* normalizers) {
  const Terms terms{{hidden, stride, &head}, {}};
  const int64_t vocabulary = head.n();
  const float factor = 1.0F / temperature;
  for_row_blocks(rows, forward_rows, [=](int64_t begin, int64_t end) {
    Running running[forward_rows];
    for (int64_t row = begin; row < end; ++row) running[row - begin].clear();
    Running* of_row = running - begin;
    for (int64_t panel = 0; panel < terms.first.w->panels(); ++panel) {
      panel_rows(begin, end, terms, panel, true, [=](int64_t row, int64_t column, Floats left, Floats right) {
        mark_missing(vocabulary, column, left, right);
        if (const uint32_t place = place_of(targets[row], column); place != 0) {
          const auto low = static_cast<Mask>(place), high = static_cast<Mask>(place >> 16);
          logprobs[row] = low != 0 ? reduce_add(low, left) : reduce_add(high, right);
        }
        add_logits<Weight::logit>(of_row[row], left, right, factor, nullptr);
      });
    }
    for (int64_t row = begin; row < end; ++row) {
      describe(of_row[row], logprobs[row], factor, logprobs[row], entropies[row], normalizers[row]);
    }
  });
}

void team_token_logprobs_gradient(int64_t rows, const bf16* hidden, int64_t stride, const PackedMatrix& head,
                                  const PackedMatrix& head_transposed, const int64_t* targets, float temperature,
                                  const float* normalizers, const float* gradients, bf16* hidden_gradient) {
  const Terms terms{{hidden, stride, &head}, {}};
  const int64_t vocabulary = head.n();
  const float factor = 1.0F / temperature;
  const Buffer<bf16> slopes(gradient_rows * slope_stride);
  const Buffer<float> sums(gradient_rows * head_transposed.padded_n());
  for_row_blocks(rows, gradient_rows, [&](int64_t begin, int64_t end) {
    slopes_times_head(begin, end, stride, head, head_transposed, slopes.get(), sums.get(), hidden_gradient,
                      [=](int64_t panel, bf16* out) {
                        panel_rows(begin, end, terms, panel, true,
                                   [=](int64_t row, int64_t column, Floats left, Floats right) {
                                     mark_missing(vocabulary, column, left, right);
                                     const Floats normalizer = all(normalizers[row]);
                                     const Floats scale = all(-gradients[row] * factor);
                                     const Floats by = all(factor);
                                     const Floats one = all(1.0F);
                                     const uint32_t place = place_of(targets[row], column);
                                     left = exp16(fmsub(left, by, normalizer));
                                     right = exp16(fmsub(right, by, normalizer));
                                     left = subtract_or(left, static_cast<Mask>(place), left, one);
                                     right = subtract_or(right, static_cast<Mask>(place >> 16), right, one);
                                     store16(out + (row - begin) * slope_stride, left * scale);
                                     store16(out + (row - begin) * slope_stride + 16, right * scale);
                                   });
                      });
  });
}

void team_divergence(int64_t rows, const bf16* student, const bf16* teacher, int64_t stride, const PackedMatrix& head,
                     float* divergences, float* student_normalizers, float* teacher_normalizers) {
  const Terms given{{student, stride, &head}, {}};
  const Terms wanted{{teacher, stride, &head}, {}};
  const int64_t vocabulary = head.n();
  for_row_blocks(rows, gradient_rows, [=](int64_t begin, int64_t end) {
    Running students[gradient_rows], teachers[gradient_rows];
    Floats logits[gradient_rows][2];  // the student's, of one panel
    for (int64_t row = 0; row < end - begin; ++row) {
      students[row].clear();
      teachers[row].clear();
    }
    Running *student_row = students - begin, *teacher_row = teachers - begin;
    Floats(*logits_row)[2] = logits - begin;
    const Floats nothing[2] = {zeros(), zeros()};
    for (int64_t panel = 0; panel < given.first.w->panels(); ++panel) {
      panel_rows(begin, end, given, panel, true, [=](int64_t row, int64_t column, Floats left, Floats right) {
        mark_missing(vocabulary, column, left, right);
        logits_row[row][0] = left;
        logits_row[row][1] = right;
        add_logits<Weight::other>(student_row[row], left, right, 1.0F, nothing);
      });
      panel_rows(begin, end, wanted, panel, false, [=](int64_t row, int64_t column, Floats left, Floats right) {
        mark_missing(vocabulary, column, left, right);
        const Mask first = columns_below(vocabulary, column);
        const Mask second = columns_below(vocabulary, column + 16);
        const Floats differences[2] = {subtract_or_zero(first, left, logits_row[row][0]),
                                       subtract_or_zero(second, right, logits_row[row][1])};
        add_logits<Weight::other>(teacher_row[row], left, right, 1.0F, differences);
      });
    }
    for (int64_t row = begin; row < end; ++row) {
      const double teacher_sum = sum_of(teacher_row[row].sum);
      const double of_student = static_cast<double>(student_row[row].largest) + std::log(sum_of(student_row[row].sum));
      const double of_teacher = static_cast<double>(teacher_row[row].largest) + std::log(teacher_sum);
      // Σ p (logit − ln Z − (logit' − ln Z'))
      const double mean_difference = sum_of(teacher_row[row].weighted) / teacher_sum;
      divergences[row] = static_cast<float>(mean_difference - of_teacher + of_student);
      student_normalizers[row] = static_cast<float>(of_student);
      teacher_normalizers[row] = static_cast<float>(of_teacher);
    }
  });
}

void team_divergence_gradient(int64_t rows, const bf16* student, const bf16* teacher, int64_t stride,
                              const PackedMatrix& head, const PackedMatrix& head_transposed,
                              const float* student_normalizers, const float* teacher_normalizers,
                              const float* gradients, bf16* student_gradient) {
  const Terms given{{student, stride, &head}, {}};
  const Terms wanted{{teacher, stride, &head}, {}};
  const int64_t vocabulary = head.n();
  const Buffer<bf16> slopes(gradient_rows * slope_stride);
  const Buffer<float> sums(gradient_rows * head_transposed.padded_n());
  for_row_blocks(rows, gradient_rows, [&](int64_t begin, int64_t end) {
    Floats probabilities[gradient_rows][2];  // the teacher's, of one panel
    Floats(*of_row)[2] = probabilities - begin;
    slopes_times_head(
        begin, end, stride, head, head_transposed, slopes.get(), sums.get(), student_gradient,
        [=](int64_t panel, bf16* out) {
          panel_rows(begin, end, wanted, panel, true, [=](int64_t row, int64_t column, Floats left, Floats right) {
            mark_missing(vocabulary, column, left, right);
            const Floats normalizer = all(teacher_normalizers[row]);
            of_row[row][0] = exp16(left - normalizer);
            of_row[row][1] = exp16(right - normalizer);
          });
          panel_rows(begin, end, given, panel, false, [=](int64_t row, int64_t column, Floats left, Floats right) {
            mark_missing(vocabulary, column, left, right);
            const Floats normalizer = all(student_normalizers[row]);
            const Floats scale = all(gradients[row]);
            left = exp16(left - normalizer) - of_row[row][0];
            right = exp16(right - normalizer) - of_row[row][1];
            store16(out + (row - begin) * slope_stride, left * scale);
            store16(out + (row - begin) * slope_stride + 16, right * scale);
          });
        });
  });
}

namespace {

class Row {
 public:
  Row(const float* logits, int64_t size, float factor) : logits_(logits), size_(size), factor_(factor) {}

  // −1 where there is no distribution.
  int32_t draw(bool greedy, float uniform) {
    if (!find_largest()) return -1;
    if (greedy) {
      int32_t id = 0;
      while (logits_[id] != largest_) ++id;
      return id;
    }
    // Σ exp of blocks of tokens, so that only one block is gone through token by token.
    double sums[most_blocks];
    const int64_t block = (size_ + most_blocks * 16 - 1) / (most_blocks * 16) * 16;
    const int64_t blocks = (size_ + block - 1) / block;
    double total = 0;
    for (int64_t i = 0; i < blocks; ++i) {
      Floats sum = zeros();
      const int64_t end = end_of(i, block);
      for (int64_t at = i * block; at < end; at += 16) sum = sum + exp16(above_largest(at));
      sums[i] = static_cast<double>(reduce_add(sum));
      total += sums[i];
    }
    const double target = static_cast<double>(uniform) * total;
    double before = 0;
    int64_t i = 0;
    while (i + 1 < blocks && before + sums[i] <= target) before += sums[i++];
    while (i > 0 && sums[i] == 0) --i;  // rounding left the end, where nothing is possible
    return static_cast<int32_t>(pass(i * block, end_of(i, block), before, target));
  }

 private:
  static constexpr int64_t most_blocks = 256;

  int64_t end_of(int64_t i, int64_t block) const { return (i + 1) * block < size_ ? (i + 1) * block : size_; }

  // 16 logits, −∞ beyond the last.
  Floats load(int64_t at) const {
    return load_or(all(-std::numeric_limits<float>::infinity()), columns_below(size_, at), logits_ + at);
  }

  Floats above_largest(int64_t at) const {
    const Floats x = (load(at) - all(largest_)) * all(factor_);
    return max(x, all(vanishing));
  }

  // False if it isn't a finite number, or a logit is NaN.
  bool find_largest() {
    Floats largest = load(0);
    Mask broken = 0;
    for (int64_t at = 0; at < size_; at += 16) {
      const Floats values = load(at);
      broken = static_cast<Mask>(broken | not_a_number(values));
      largest = max(largest, values);
    }
    largest_ = reduce_max(largest);
    const float limit = std::numeric_limits<float>::max();
    return broken == 0 && largest_ >= -limit && largest_ <= limit;
  }

  // The first of tokens [begin, end) with which the sum passes the target; the last possible one if rounding left none.
  int64_t pass(int64_t begin, int64_t end, double sum, double target) const {
    int64_t last = begin;
    for (int64_t at = begin; at < end; at += 16) {
      alignas(64) float e[16];
      store(e, exp16(above_largest(at)));
      for (int64_t j = 0; j < 16; ++j) {
        if (e[j] <= 0) continue;
        last = at + j;
        sum += static_cast<double>(e[j]);
        if (sum > target) return last;
      }
    }
    return last;
  }

  const float* logits_;
  int64_t size_;
  float factor_;
  float largest_ = 0;
};

void describe_row(const float* logits, int64_t vocabulary, float factor, int32_t id, float& logprob, float& entropy,
                  float& normalizer) {
  Running running;
  running.clear();
  for (int64_t column = 0; column < vocabulary; column += panel_width) {
    Floats left = load_or_zero(columns_below(vocabulary, column), logits + column);
    Floats right = load_or_zero(columns_below(vocabulary, column + 16), logits + column + 16);
    mark_missing(vocabulary, column, left, right);
    add_logits<Weight::logit>(running, left, right, factor, nullptr);
  }
  describe(running, logits[id], factor, logprob, entropy, normalizer);
}

}  // namespace

void team_sample(int64_t rows, const float* logits, int64_t stride, int64_t vocabulary, float temperature,
                 const float* uniforms, int32_t* ids, float* logprobs, float* entropies, float* normalizers) {
  const bool greedy = temperature == 0;
  const float factor = greedy ? 1.0F : 1.0F / temperature;
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = logits + row * stride;
    ids[row] = Row(from, vocabulary, factor).draw(greedy, uniforms[row]);
    if (ids[row] < 0) {
      ids[row] = 0;
      logprobs[row] = entropies[row] = normalizers[row] = std::numeric_limits<float>::quiet_NaN();
    } else {
      describe_row(from, vocabulary, factor, ids[row], logprobs[row], entropies[row], normalizers[row]);
    }
  }
}

void team_describe(int64_t rows, const float* logits, int64_t stride, int64_t vocabulary, float temperature,
                   const int32_t* ids, float* logprobs, float* entropies, float* normalizers) {
#pragma omp for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    describe_row(logits + row * stride, vocabulary, 1.0F / temperature, ids[row], logprobs[row], entropies[row],
                 normalizers[row]);
  }
}

}  // namespace backburn::kernels::BACKBURN_VECTOR
