#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "backburn/model/lora.h"
#include "backburn/model/weights.h"

namespace backburn::model {

/// Sequences that share a beginning, packed one after the other: `prefix` tokens, then each branch. A branch sees the
/// prefix and itself, causally. A lone sequence is a tree without branches.
struct TokenTree {
  std::vector<int32_t> prefix;
  std::vector<std::vector<int32_t>> branches;
  int64_t size() const;
};

/// Trees laid end to end without padding.
struct PackedTokens {
  at::Tensor ids;        ///< [tokens] int64
  at::Tensor positions;  ///< [tokens] int64, a branch goes on where its prefix ends
  struct Span {
    int64_t begin = 0;              ///< first token of the tree
    int64_t prefix = 0;             ///< tokens in the shared prefix
    std::vector<int64_t> branches;  ///< tokens in each branch
    int64_t size() const;
  };
  std::vector<Span> spans;
  int64_t tokens() const { return ids.size(0); }
};

PackedTokens pack(std::span<const TokenTree> trees);

/// What computes: weights, and the adapter that is being trained or tried on them (none: the weights as they are,
/// which may themselves be trained, see trained_weights.h). A view: both must outlive it.
struct Network {
  const ModelConfig* config = nullptr;
  const Weights* weights = nullptr;
  const Adapter* adapter = nullptr;
  /// A gradient computes each layer again from its input instead of keeping what it read (Chen 2016, arXiv 1604.06174).
  bool gradient_checkpointing = false;
  at::ScalarType dtype() const { return weights->embedding.scalar_type(); }
  /// Where it computes, and hidden states, logits and keys are. Tokens and positions come from the CPU.
  at::Device device() const { return weights->embedding.device(); }
  at::TensorOptions options() const { return weights->embedding.options(); }  ///< both
};

/// Whether its layers are computed by the kernels (packed.h) rather than by LibTorch's operations: not with DoRA, whose
/// row_ratio changes at every update.
bool runs_on_kernels(const Network& network);

/// Keys and values of one layer, [key_value_heads, tokens, head_dim] for packed tokens.
struct LayerKeyValues {
  at::Tensor keys, values;
};

/// The hidden states after the final norm, [tokens, hidden]. Differentiable in the adapter's parameters, or without one
/// in weights that require it, when autograd is on. With `key_values`, also hands out every layer's keys (RoPE applied)
/// and values, as prefill needs.
at::Tensor hidden_states(const Network& network, const PackedTokens& tokens,
                         std::vector<LayerKeyValues>* key_values = nullptr);

/// Logits of hidden states, [rows, vocab] f32. For few rows: training computes its log-probabilities in chunks.
at::Tensor logits(const Network& network, const at::Tensor& hidden);

/// Neighbouring tokens of a packed pass.
struct TokenRange {
  int64_t begin = 0, length = 0;
};

/// Keys and values of sequences that are being generated, one row each.
struct KeyValueCache {
  struct Layer {
    at::Tensor keys, values;  ///< [rows, key_value_heads, capacity, head_dim]
  };
  std::vector<Layer> layers;
  std::vector<int64_t> lengths;  ///< tokens held, per row

  /// options: dtype and device.
  static KeyValueCache allocate(const ModelConfig& config, int64_t rows, int64_t capacity,
                                const at::TensorOptions& options);
  /// Makes `row` hold these tokens of what a packed prefill returned, one range after the other.
  void load(int64_t row, const std::vector<LayerKeyValues>& prefilled, std::span<const TokenRange> ranges);
  /// Copies a row's tokens over another's: how the last row takes the place of a finished one, and a row splits.
  void copy_row(int64_t from, int64_t to);
};

/// One decode step for the first ids.size() rows of the cache: appends each row's new token, returns the hidden states
/// after the final norm, [rows, hidden]. No autograd. ids: one new token a row.
at::Tensor decode_step(const Network& network, std::span<const int32_t> ids, KeyValueCache& cache);

}  // namespace backburn::model
