#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "backburn/model/linear_layers.h"

namespace backburn::model {

/// A gated MLP: down · (act(gate · x) ∘ (up · x)).
struct MlpWeights {
  at::Tensor gate, up;  ///< [intermediate, hidden]
  at::Tensor down;      ///< [hidden, intermediate]
};

/// One decoder layer's frozen tensors; an undefined bias means the family has none.
struct LayerWeights {
  at::Tensor attention_norm;         ///< [hidden], before attention; undefined without norms_before
  at::Tensor attention_output_norm;  ///< [hidden], after it; undefined without norms_after
  at::Tensor q;                      ///< [heads × head_dim, hidden]
  at::Tensor k, v;                   ///< [key_value_heads × head_dim, hidden]
  at::Tensor o;                      ///< [hidden, heads × head_dim]
  at::Tensor q_bias, k_bias, v_bias, o_bias;
  at::Tensor q_norm, k_norm;             ///< [head_dim], or of all heads together; undefined without query_key_norm
  at::Tensor mlp_norm, mlp_output_norm;  ///< [hidden], likewise
  at::Tensor gate, up;                   ///< [intermediate, hidden]
  at::Tensor down;                       ///< [hidden, intermediate]
  at::Tensor qkv,
      gate_up;        ///< with fused_projections, in place of q, k, v and of gate, up: their rows one after the other
  at::Tensor router;  ///< [experts, hidden], with experts in place of gate, up, down
  std::vector<MlpWeights> experts;
};

/// The weight of one of its linear layers outside of experts; undefined where the family has none of that kind.
at::Tensor& projection(LayerWeights& layer, Projection which);
const at::Tensor& projection(const LayerWeights& layer, Projection which);

/// The weights of all its linear layers, in the order of linear_layers.
std::vector<at::Tensor*> linear_weights(LayerWeights& layer, bool fused_projections);

/// Every tensor that the layer has.
std::vector<at::Tensor> tensors_of(const LayerWeights& layer);

class PackedWeights;

/// All frozen tensors, in the compute dtype (bf16 or f32). Rows of q and k follow Hugging Face's half-split RoPE.
struct Weights {
  at::Tensor embedding;  ///< [vocab, hidden]
  std::vector<LayerWeights> layers;
  at::Tensor final_norm;                        ///< [hidden]
  at::Tensor head;                              ///< [vocab, hidden]; the same tensor as `embedding` when tied
  std::shared_ptr<const PackedWeights> packed;  ///< the same for kernels/matrix.h, see packed.h; null: not in use
};

/// A tensor of the model by its Hugging Face name ("model.layers.0.self_attn.q_proj.weight"), and where it belongs.
struct NamedWeight {
  std::string name;
  at::Tensor* tensor;
  std::vector<int64_t> shape;
};

/// Every tensor that a model of this config has, with its place in `weights` (whose layers are resized to fit).
/// The one list from which loaders and exporters work. The tied head is left out.
std::vector<NamedWeight> named_weights(const ModelConfig& config, Weights& weights);

}  // namespace backburn::model
