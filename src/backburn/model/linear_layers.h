#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "backburn/model/config.h"

namespace backburn::model {

/// The kinds of linear layers in a decoder layer, in PEFT's names. Phi-3 has q, k and v in one, gate and up in one.
enum class Projection { q, k, v, o, gate, up, down, qkv, gate_up };
inline constexpr std::array<const char*, 9> projection_names = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj"};

/// A linear layer of a decoder layer: what an adapter updates.
struct LinearLayer {
  Projection which;
  int64_t expert = -1;      ///< of the layer's mixture of experts; -1: of no expert
  std::string module = {};  ///< its name below "model.layers.N.", as in files: "self_attn.q_proj"
  int64_t out = 0, in = 0;  ///< the weight is [out, in]
  bool in_attention() const { return which <= Projection::o || which == Projection::qkv; }
};

/// Those of one decoder layer, attention first. The one list behind weights, adapters and their files: a Llama layer's
/// are q, k, v, o, gate, up, down, so that a Projection is its place in the list.
std::vector<LinearLayer> linear_layers(const ModelConfig& config, size_t layer);

/// The place of one of them in that list.
size_t linear_index(const ModelConfig& config, Projection which, int64_t expert = -1);

/// What a decoder layer's mixture of experts is called in files.
const char* mixture_module(const ModelConfig& config);

/// {out, in} of a weight outside of experts.
std::pair<int64_t, int64_t> projection_shape(const ModelConfig& config, Projection which);

}  // namespace backburn::model
