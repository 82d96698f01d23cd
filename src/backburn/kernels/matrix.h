#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "backburn/kernels/quantized.h"

/// Matrix products and the operations between them, for bf16 values on CPUs with AVX-512 BF16 or AVX2 (cpu.h).
/// LibTorch's linear layers reorder the weights at every call and make a pass over memory for every operation in
/// between; here frozen weights are laid out once, and what follows a product happens while its result is in registers.
///
/// Functions named team_… are to be called by every thread of an OpenMP parallel region (or outside of one, by a single
/// thread): they share the work out and meet at a barrier. No result depends on the number of threads, nor a row's
/// result on the other rows.
namespace backburn::kernels {

/// The bits of a bfloat16.
using bf16 = uint16_t;

class HugePages;

/// A matrix W [n, k] laid out for y = x · Wᵀ: panels of 32 rows, in a panel the 32 rows' pairs of neighbouring elements
/// one after the other, as vdpbf16ps takes them. Rows beyond n are zero. Of a quantised matrix there are no panels: the
/// product unpacks its tiles, which the transposed matrix reads the other way round.
class PackedMatrix {
 public:
  static constexpr int64_t panel_rows = 32;

  PackedMatrix() = default;
  /// Packs row-major `matrix` [n, k]; k is even. `memory` is for what is kept and read at every token (null: the heap).
  PackedMatrix(const bf16* matrix, int64_t n, int64_t k, HugePages* memory = nullptr);
  /// `matrix`, or its transpose.
  explicit PackedMatrix(std::shared_ptr<const QuantizedMatrix> matrix, bool transposed = false)
      : n_(transposed ? matrix->k() : matrix->n()),
        k_(transposed ? matrix->n() : matrix->k()),
        quantized_(std::move(matrix)),
        transposed_(transposed) {}

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int64_t panels() const { return (n_ + panel_rows - 1) / panel_rows; }
  int64_t padded_n() const { return panels() * panel_rows; }
  const bf16* panel(int64_t index) const { return data_.get() + index * panel_rows * k_; }
  const std::shared_ptr<const QuantizedMatrix>& quantized() const { return quantized_; }  ///< null: has panels
  bool is_transposed() const { return transposed_; }                                      ///< of a quantised matrix

 private:
  int64_t n_ = 0, k_ = 0;
  std::shared_ptr<bf16[]> data_;
  std::shared_ptr<const QuantizedMatrix> quantized_;
  bool transposed_ = false;
};

/// One product of a sum: x [m, w.k()] with rows `stride` elements apart (even), and w.
struct Term {
  const bf16* x = nullptr;
  int64_t stride = 0;
  const PackedMatrix* w = nullptr;
};

/// y = Σ x · Wᵀ (+ bias [n] f32). y [m, stride ≥ n]. One or two terms with the same n.
struct Terms {
  Term first;
  Term second;  ///< w null: none. What a low-rank update is.
};

void team_multiply(int64_t m, const Terms& terms, const float* bias, bf16* y, int64_t stride);
void team_multiply_f32(int64_t m, const Terms& terms, float* y, int64_t stride);

/// y += Σ x · Wᵀ, in f32.
void team_multiply_add(int64_t m, const Terms& terms, float* y, int64_t stride);

/// out = residual + (Σ x · Wᵀ + bias), the product rounded to bf16 before the sum as a layer by layer model would.
/// residual, out [m, stride]; they may be the same.
void team_multiply_residual(int64_t m, const Terms& terms, const float* bias, const bf16* residual, bf16* out,
                            int64_t stride);

/// silu(gate) · up for a matrix whose panels hold 16 gate rows and then the 16 up rows of the same places.
/// gate_up (null: not kept) [m, 2 × inner] in the panels' order; out [m, inner].
void team_multiply_swiglu(int64_t m, const Terms& terms, bf16* gate_up, bf16* out, int64_t inner);

/// out [n, r] f32 += scale · yᵀ · low: the gradient of a low-rank factor over `tokens` rows. y [tokens, y_stride] of
/// which n columns count, 16 neighbours at a time that lie `group_step` apart (16: all in a row), low [tokens,
/// low_stride] of which r columns count; n is a multiple of 8, r a multiple of 16. Element (i, j) goes to out[i ·
/// row_step + j · column_step].
void team_outer_add(int64_t tokens, const bf16* y, int64_t y_stride, int64_t n, int64_t group_step, const bf16* low,
                    int64_t low_stride, int64_t r, float scale, float* out, int64_t row_step, int64_t column_step);

}  // namespace backburn::kernels
