#include "backburn/model/weights.h"

#include <fmt/format.h>

namespace backburn::model {

std::vector<NamedWeight> named_weights(const ModelConfig& config, Weights& weights) {
  const int64_t hidden = config.hidden_size;
  const int64_t queries = config.num_attention_heads * config.head_dim;
  const int64_t keys = config.num_key_value_heads * config.head_dim;
  weights.layers.resize(config.num_hidden_layers);

  std::vector<NamedWeight> list;
  list.push_back({"model.embed_tokens.weight", &weights.embedding, {config.vocab_size, hidden}});
  for (int64_t index = 0; index < config.num_hidden_layers; ++index) {
    LayerWeights& layer = weights.layers[index];
    auto add = [&](const char* name, at::Tensor& tensor, std::vector<int64_t> shape) {
      list.push_back({fmt::format("model.layers.{}.{}", index, name), &tensor, std::move(shape)});
    };
    if (config.norms_before) add("input_layernorm.weight", layer.attention_norm, {hidden});
    add("self_attn.q_proj.weight", layer.q, {queries, hidden});
    add("self_attn.k_proj.weight", layer.k, {keys, hidden});
    add("self_attn.v_proj.weight", layer.v, {keys, hidden});
    add("self_attn.o_proj.weight", layer.o, {hidden, queries});
    if (config.attention_bias) {
      add("self_attn.q_proj.bias", layer.q_bias, {queries});
      add("self_attn.k_proj.bias", layer.k_bias, {keys});
      add("self_attn.v_proj.bias", layer.v_bias, {keys});
    }
    if (config.attention_output_bias) add("self_attn.o_proj.bias", layer.o_bias, {hidden});
    if (config.query_key_norm != QueryKeyNorm::none) {
      const bool whole = config.query_key_norm == QueryKeyNorm::whole;
      add("self_attn.q_norm.weight", layer.q_norm, {whole ? queries : config.head_dim});
      add("self_attn.k_norm.weight", layer.k_norm, {whole ? keys : config.head_dim});
    }
    if (config.norms_after) {
      add("post_attention_layernorm.weight", layer.attention_output_norm, {hidden});
      if (config.norms_before) add("pre_feedforward_layernorm.weight", layer.mlp_norm, {hidden});
      add("post_feedforward_layernorm.weight", layer.mlp_output_norm, {hidden});
    } else {
      add("post_attention_layernorm.weight", layer.mlp_norm, {hidden});
    }
    add("mlp.gate_proj.weight", layer.gate, {config.intermediate_size, hidden});
    add("mlp.up_proj.weight", layer.up, {config.intermediate_size, hidden});
    add("mlp.down_proj.weight", layer.down, {hidden, config.intermediate_size});
  }
  list.push_back({"model.norm.weight", &weights.final_norm, {hidden}});
  if (!config.tie_word_embeddings) list.push_back({"lm_head.weight", &weights.head, {config.vocab_size, hidden}});
  return list;
}

}  // namespace backburn::model
