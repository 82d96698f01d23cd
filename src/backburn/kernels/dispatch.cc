// Which instruction set's functions are called: each is compiled twice, in a namespace of its own (vector.h).
#include <type_traits>

#include "backburn/kernels/attention.h"
#include "backburn/kernels/cpu.h"
#include "backburn/kernels/elementwise.h"
#include "backburn/kernels/matrix.h"
#include "backburn/kernels/quantized.h"
#include "backburn/kernels/vocabulary.h"

namespace backburn::kernels {

// What every set has, declared as the headers declare it.
#define BACKBURN_DECLARE(set)                                                             \
  namespace set {                                                                         \
  decltype(kernels::team_multiply) team_multiply;                                         \
  decltype(kernels::team_multiply_f32) team_multiply_f32;                                 \
  decltype(kernels::team_multiply_add) team_multiply_add;                                 \
  decltype(kernels::team_multiply_residual) team_multiply_residual;                       \
  decltype(kernels::team_multiply_swiglu) team_multiply_swiglu;                           \
  decltype(kernels::team_outer_add) team_outer_add;                                       \
  decltype(kernels::team_rms_norm) team_rms_norm;                                         \
  decltype(kernels::team_rms_norm_gradient) team_rms_norm_gradient;                       \
  decltype(kernels::team_rotate) team_rotate;                                             \
  decltype(kernels::team_rotate_back) team_rotate_back;                                   \
  decltype(kernels::team_swiglu_gradient) team_swiglu_gradient;                           \
  decltype(kernels::team_attend) team_attend;                                             \
  decltype(kernels::team_attend_gradient) team_attend_gradient;                           \
  decltype(kernels::team_attend_cached) team_attend_cached;                               \
  decltype(kernels::team_token_logprobs) team_token_logprobs;                             \
  decltype(kernels::team_token_logprobs_gradient) team_token_logprobs_gradient;           \
  decltype(kernels::team_divergence) team_divergence;                                     \
  decltype(kernels::team_divergence_gradient) team_divergence_gradient;                   \
  decltype(kernels::team_sample) team_sample;                                             \
  decltype(kernels::team_describe) team_describe;                                         \
  void unpack_rows(const QuantizedMatrix& matrix, int64_t begin, int64_t end, bf16* out); \
  }

BACKBURN_DECLARE(avx512)
BACKBURN_DECLARE(avx2)

#undef BACKBURN_DECLARE

namespace {

template <class... Arguments>
void call(void (*wide)(Arguments...), void (*narrow)(Arguments...), std::type_identity_t<Arguments>... arguments) {
  (instructions() == Instructions::avx512 ? wide : narrow)(arguments...);
}

}  // namespace

void team_multiply(int64_t m, const Terms& terms, const float* bias, bf16* y, int64_t stride) {
  call(avx512::team_multiply, avx2::team_multiply, m, terms, bias, y, stride);
}

void team_multiply_f32(int64_t m, const Terms& terms, float* y, int64_t stride) {
  call(avx512::team_multiply_f32, avx2::team_multiply_f32, m, terms, y, stride);
}

void team_multiply_add(int64_t m, const Terms& terms, float* y, int64_t stride) {
  call(avx512::team_multiply_add, avx2::team_multiply_add, m, terms, y, stride);
}

void team_multiply_residual(int64_t m, const Terms& terms, const float* bias, const bf16* residual, bf16* out,
                            int64_t stride) {
  call(avx512::team_multiply_residual, avx2::team_multiply_residual, m, terms, bias, residual, out, stride);
}

void team_multiply_swiglu(int64_t m, const Terms& terms, bf16* gate_up, bf16* out, int64_t inner) {
  call(avx512::team_multiply_swiglu, avx2::team_multiply_swiglu, m, terms, gate_up, out, inner);
}

void team_outer_add(int64_t tokens, const bf16* y, int64_t y_stride, int64_t n, int64_t group_step, const bf16* low,
                    int64_t low_stride, int64_t r, float scale, float* out, int64_t row_step, int64_t column_step) {
  call(avx512::team_outer_add, avx2::team_outer_add, tokens, y, y_stride, n, group_step, low, low_stride, r, scale, out,
       row_step, column_step);
}

void team_rms_norm(int64_t rows, int64_t width, const bf16* x, const bf16* weight, float eps, bf16* out) {
  call(avx512::team_rms_norm, avx2::team_rms_norm, rows, width, x, weight, eps, out);
}

void team_rms_norm_gradient(int64_t rows, int64_t width, const bf16* x, const bf16* weight, float eps,
                            const bf16* out_gradient, float* gradient, bf16* rounded) {
  call(avx512::team_rms_norm_gradient, avx2::team_rms_norm_gradient, rows, width, x, weight, eps, out_gradient,
       gradient, rounded);
}

void team_rotate(int64_t rows, int64_t heads, int64_t head_dim, const float* cosine, const float* sine, bf16* x,
                 int64_t stride) {
  call(avx512::team_rotate, avx2::team_rotate, rows, heads, head_dim, cosine, sine, x, stride);
}

void team_rotate_back(int64_t rows, int64_t heads, int64_t head_dim, const float* cosine, const float* sine,
                      const float* x, bf16* out, int64_t width) {
  call(avx512::team_rotate_back, avx2::team_rotate_back, rows, heads, head_dim, cosine, sine, x, out, width);
}

void team_swiglu_gradient(int64_t rows, int64_t inner, const bf16* gate_up, const bf16* out_gradient,
                          bf16* gate_up_gradient, bf16* out) {
  call(avx512::team_swiglu_gradient, avx2::team_swiglu_gradient, rows, inner, gate_up, out_gradient, gate_up_gradient,
       out);
}

void team_attend(const HeadShape& shape, int64_t tokens, const bf16* qkv, const Sight* sights, bf16* out,
                 float* log_sums) {
  call(avx512::team_attend, avx2::team_attend, shape, tokens, qkv, sights, out, log_sums);
}

void team_attend_gradient(const HeadShape& shape, const int64_t* trees, int64_t tree_count, const bf16* qkv,
                          const Sight* sights, const bf16* out, const float* log_sums, const bf16* out_gradient,
                          float* qkv_gradient) {
  call(avx512::team_attend_gradient, avx2::team_attend_gradient, shape, trees, tree_count, qkv, sights, out, log_sums,
       out_gradient, qkv_gradient);
}

void team_attend_cached(const HeadShape& shape, int64_t rows, const bf16* qkv, const int64_t* lengths, int64_t capacity,
                        bf16* keys, bf16* values, bf16* out, float* log_sums) {
  call(avx512::team_attend_cached, avx2::team_attend_cached, shape, rows, qkv, lengths, capacity, keys, values, out,
       log_sums);
}

void team_token_logprobs(int64_t rows, const bf16* hidden, int64_t stride, const PackedMatrix& head,
                         const int64_t* targets, float temperature, float* logprobs, float* entropies,
                         float* normalizers) {
  call(avx512::team_token_logprobs, avx2::team_token_logprobs, rows, hidden, stride, head, targets, temperature,
       logprobs, entropies, normalizers);
}

void team_token_logprobs_gradient(int64_t rows, const bf16* hidden, int64_t stride, const PackedMatrix& head,
                                  const PackedMatrix& head_transposed, const int64_t* targets, float temperature,
                                  const float* normalizers, const float* gradients, bf16* hidden_gradient) {
  call(avx512::team_token_logprobs_gradient, avx2::team_token_logprobs_gradient, rows, hidden, stride, head,
       head_transposed, targets, temperature, normalizers, gradients, hidden_gradient);
}

void team_divergence(int64_t rows, const bf16* student, const bf16* teacher, int64_t stride, const PackedMatrix& head,
                     float* divergences, float* student_normalizers, float* teacher_normalizers) {
  call(avx512::team_divergence, avx2::team_divergence, rows, student, teacher, stride, head, divergences,
       student_normalizers, teacher_normalizers);
}

void team_divergence_gradient(int64_t rows, const bf16* student, const bf16* teacher, int64_t stride,
                              const PackedMatrix& head, const PackedMatrix& head_transposed,
                              const float* student_normalizers, const float* teacher_normalizers,
                              const float* gradients, bf16* student_gradient) {
  call(avx512::team_divergence_gradient, avx2::team_divergence_gradient, rows, student, teacher, stride, head,
       head_transposed, student_normalizers, teacher_normalizers, gradients, student_gradient);
}

void team_sample(int64_t rows, const float* logits, int64_t stride, int64_t vocabulary, float temperature,
                 const float* uniforms, int32_t* ids, float* logprobs, float* entropies, float* normalizers) {
  call(avx512::team_sample, avx2::team_sample, rows, logits, stride, vocabulary, temperature, uniforms, ids, logprobs,
       entropies, normalizers);
}

void team_describe(int64_t rows, const float* logits, int64_t stride, int64_t vocabulary, float temperature,
                   const int32_t* ids, float* logprobs, float* entropies, float* normalizers) {
  call(avx512::team_describe, avx2::team_describe, rows, logits, stride, vocabulary, temperature, ids, logprobs,
       entropies, normalizers);
}

void QuantizedMatrix::unpack(int64_t begin, int64_t end, uint16_t* out) const {
  call(avx512::unpack_rows, avx2::unpack_rows, *this, begin, end, out);
}

}  // namespace backburn::kernels
