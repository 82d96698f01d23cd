#pragma once

#include <ATen/core/Tensor.h>

#include "backburn/model/transformer.h"

/// The decoder on packed weights (packed.h): what transformer.h's functions of the same names do where the weights have
/// them, several times as fast as LibTorch's operations one by one. Rounding is bf16's at the same places but for the
/// rotary angles, attention's weights and the logits, which stay f32.
namespace backburn::model::packed {

at::Tensor hidden_states(const Network& network, const PackedTokens& tokens, std::vector<LayerKeyValues>* key_values);
at::Tensor decode_step(const Network& network, std::span<const int32_t> ids, KeyValueCache& cache);
at::Tensor logits(const Network& network, const at::Tensor& hidden);

}  // namespace backburn::model::packed
