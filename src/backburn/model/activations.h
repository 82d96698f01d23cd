#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "backburn/model/transformer.h"

/// What a forward pass leaves behind for its gradient. Generation computes the very values that the update on its
/// answers would compute again; recorded, they save the update its forward pass. Only on packed weights (packed.h).
namespace backburn::model {

/// The values of one layer that its gradient reads again, a row a token. Tensors that are not kept are undefined: with
/// gradient checkpointing, all but the input.
struct LayerActivations {
  at::Tensor input;               ///< [rows, hidden] bf16: the residual stream
  at::Tensor qkv;                 ///< [rows, (heads + 2 × key_value_heads) × head_dim] bf16, RoPE applied
  at::Tensor attended;            ///< [rows, heads × head_dim] bf16
  at::Tensor log_sums;            ///< [rows, heads] f32: ln Σ exp(score)
  at::Tensor middle;              ///< [rows, hidden] bf16: the residual stream after attention
  at::Tensor gate_up;             ///< [rows, 2 × intermediate] bf16, in the order of the packed panels
  std::array<at::Tensor, 4> low;  ///< [rows, places] bf16: the low-rank parts x · Aᵀ, by product
};

/// Of all layers; a token's rows have the same number in each of them.
struct Activations {
  std::vector<LayerActivations> layers;
  at::Tensor last;   ///< [rows, hidden] bf16: the residual stream after the last layer
  int64_t used = 0;  ///< rows that are filled: what is computed next goes to the rows behind them

  bool inputs_only() const { return !layers.front().qkv.defined(); }
};

/// Room for `capacity` tokens; memory is taken up as rows are filled. rank: of the adapter that is being trained.
Activations allocate_activations(const ModelConfig& config, int64_t rank, int64_t capacity);

/// What a token's row takes up in all layers together.
int64_t activation_bytes(const ModelConfig& config, int64_t rank);

/// transformer.h's functions of the same names, with an adapter on packed weights, that also record every token's
/// activations behind record.used. Without gradient.
at::Tensor hidden_states(const Network& network, const PackedTokens& tokens, std::vector<LayerKeyValues>* key_values,
                         Activations& record);
at::Tensor decode_step(const Network& network, std::span<const int32_t> ids, KeyValueCache& cache, Activations& record);

/// What hidden_states(network, tokens) returns, its gradient included, without computing it: the activations of the
/// i-th token are in row rows[i] of the record. The record is of the same weights and of an adapter with the same
/// values. Takes the record: layer by layer, what nobody else holds is freed.
at::Tensor recorded_hidden_states(const Network& network, const PackedTokens& tokens, Activations record,
                                  std::span<const int64_t> rows);

}  // namespace backburn::model
