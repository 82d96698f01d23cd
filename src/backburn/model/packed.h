#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backburn/kernels/matrix.h"
#include "backburn/model/ggml.h"
#include "backburn/model/lora.h"
#include "backburn/model/weights.h"

namespace backburn::model {

/// The four products of a decoder layer: q, k and v are one, gate and up are one (in panels of 16 + 16 rows, see
/// kernels::team_multiply_swiglu).
enum class Product { qkv, o, gate_up, down };
std::vector<Projection> projections_of(Product product);
/// Their members' rows as the product has them, [out, …].
at::Tensor joined(Product product, const std::vector<at::Tensor>& members);
using PackedProducts = std::array<kernels::PackedMatrix, 4>;

/// ggml's blocks laid out for the kernels: Q8_0 or Q4_0, [rows, bytes of a row] uint8.
kernels::PackedMatrix quantized_matrix(GgmlType type, const at::Tensor& blocks);

/// A model's frozen weights laid out for kernels/matrix.h, beside the tensors of `Weights`.
class PackedWeights {
 public:
  /// Whether the kernels can be used: not on another CPU, with weights that are not bf16, sizes that don't fill
  /// registers, layers that are not Llama's (ModelConfig::is_plain).
  static bool fits(const ModelConfig& config, at::ScalarType dtype);

  /// Null where it does not fit, and for weights that are on a GPU.
  static std::shared_ptr<PackedWeights> make(const ModelConfig& config, const Weights& weights);

  /// Of matrices that are quantised already; `weights` has the rest. origin: what open_model finds them under.
  static std::shared_ptr<PackedWeights> make_quantized(const Weights& weights, std::vector<PackedProducts> layers,
                                                       kernels::PackedMatrix head, const std::string& origin);

  /// Whether the matrices are held quantised, and nowhere else.
  bool is_quantized() const { return head_.quantized() != nullptr; }
  const std::string& origin() const { return origin_; }
  /// One of those, unpacked anew: [out, in] bf16, and the head [vocab, hidden].
  at::Tensor unpacked(const ModelConfig& config, size_t layer, Projection which) const;
  at::Tensor unpacked_head() const;

  const PackedProducts& layer(size_t index) const { return layers_[index]; }
  const kernels::PackedMatrix& head() const { return head_; }  ///< [vocab, hidden]
  const float* qkv_bias(size_t layer) const { return qkv_biases_[layer].empty() ? nullptr : qkv_biases_[layer].data(); }
  const float* o_bias(size_t layer) const { return o_biases_[layer].empty() ? nullptr : o_biases_[layer].data(); }

  /// Of the transposed weights, as gradients need them; made at the first call. Quantised ones take no memory.
  const PackedProducts& transposed(size_t index) const;
  const kernels::PackedMatrix& head_transposed() const;  ///< [hidden, vocab]

 private:
  void read_biases(const Weights& weights);

  Weights weights_;     // shares the tensors
  std::string origin_;  // of quantised ones
  std::vector<PackedProducts> layers_;
  std::vector<std::vector<float>> qkv_biases_, o_biases_;
  kernels::PackedMatrix head_;
  mutable std::once_flag transposed_once_, head_once_;
  mutable std::vector<PackedProducts> transposed_;
  mutable kernels::PackedMatrix head_transposed_;
};

/// The head [vocab, hidden], unpacked anew where it is quantised.
at::Tensor whole_head(const Weights& weights);

/// An adapter laid out likewise. The projections of a product have their low-rank places side by side, each rounded up
/// to a multiple of 16: x · Aᵀ gives [q k v], and B is zero where another projection's places meet a row. A projection
/// that the adapter leaves alone is zero; a product of nothing but such has no matrices.
struct PackedAdapter {
  struct Pair {
    kernels::PackedMatrix a;  ///< [low, in]
    kernels::PackedMatrix b;  ///< [out, low], times the adapter's scale
    bool is_empty() const { return a.n() == 0; }
  };
  std::vector<std::array<Pair, 4>> layers;
  std::vector<std::array<Pair, 4>> transposed;  ///< a [in, low] and b [low, out]; empty unless asked for
};
PackedAdapter pack_adapter(const Adapter& adapter, const ModelConfig& config, bool with_transposed);

/// Places that a projection takes up in its product's low-rank part: the rank, rounded up to a multiple of 16.
int64_t padded_rank(int64_t rank);

}  // namespace backburn::model
