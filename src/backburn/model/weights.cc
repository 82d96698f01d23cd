#include "backburn/model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace backburn::model {

at::Tensor& projection(LayerWeights& layer, Projection which) {
  const std::array<at::Tensor*, projection_names.size()> list = {
      &layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down, &layer.qkv, &layer.gate_up};
  return *list[static_cast<size_t>(which)];
}

const at::Tensor& projection(const LayerWeights& layer, Projection which) {
  return projection(const_cast<LayerWeights&>(layer), which);
}

std::vector<at::Tensor*> linear_weights(LayerWeights& layer, bool fused_projections) {
  if (fused_projections) return {&layer.qkv, &layer.o, &layer.gate_up, &layer.down};
  std::vector<at::Tensor*> list = {&layer.q, &layer.k, &layer.v, &layer.o};
  if (layer.experts.empty()) list.insert(list.end(), {&layer.gate, &layer.up, &layer.down});
  for (MlpWeights& expert : layer.experts) list.insert(list.end(), {&expert.gate, &expert.up, &expert.down});
  return list;
}

std::vector<at::Tensor> tensors_of(const LayerWeights& layer) {
  std::vector<at::Tensor> list;
  const auto add = [&](std::initializer_list<at::Tensor> tensors) {
    std::copy_if(tensors.begin(), tensors.end(), std::back_inserter(list), [](const auto& x) { return x.defined(); });
  };
  add({layer.attention_norm,
       layer.attention_output_norm,
       layer.q,
       layer.k,
       layer.v,
       layer.o,
       layer.q_bias,
       layer.k_bias,
       layer.v_bias,
       layer.o_bias,
       layer.q_norm,
       layer.k_norm,
       layer.mlp_norm,
       layer.mlp_output_norm,
       layer.gate,
       layer.up,
       layer.down,
       layer.qkv,
       layer.gate_up,
       layer.router});
  for (const MlpWeights& expert : layer.experts) add({expert.gate, expert.up, expert.down});
  return list;
}

std::vector<NamedWeight> named_weights(const ModelConfig& config, Weights& weights) {
  const int64_t hidden = config.hidden_size;
  const int64_t queries = config.num_attention_heads * config.head_dim;
  const int64_t keys = config.num_key_value_heads * config.head_dim;
  weights.layers.resize(config.num_hidden_layers);

  std::vector<NamedWeight> list;
  list.push_back({"model.embed_tokens.weight", &weights.embedding, {config.vocab_size, hidden}});
  for (int64_t index = 0; index < config.num_hidden_layers; ++index) {
    LayerWeights& layer = weights.layers[index];
    auto add = [&](const std::string& name, at::Tensor& tensor, std::vector<int64_t> shape) {
      list.push_back({fmt::format("model.layers.{}.{}", index, name), &tensor, std::move(shape)});
    };
    if (config.norms_before) add("input_layernorm.weight", layer.attention_norm, {hidden});
    layer.experts.resize(config.has_experts(index) ? config.mixture.num_experts : 0);
    const auto linear = linear_layers(config, index);
    const auto places = linear_weights(layer, config.fused_projections);
    auto add_linear = [&](bool in_attention) {
      for (size_t i = 0; i < linear.size(); ++i) {
        if (linear[i].in_attention() != in_attention) continue;
        add(linear[i].module + ".weight", *places[i], {linear[i].out, linear[i].in});
      }
    };
    add_linear(true);
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
    if (config.has_experts(index)) {
      add(fmt::format("{}.gate.weight", mixture_module(config)), layer.router, {config.mixture.num_experts, hidden});
    }
    add_linear(false);
  }
  list.push_back({"model.norm.weight", &weights.final_norm, {hidden}});
  if (!config.tie_word_embeddings) list.push_back({"lm_head.weight", &weights.head, {config.vocab_size, hidden}});
  return list;
}

}  // namespace backburn::model
