#include "backburn/model/families.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "backburn/model/config_fields.h"

namespace backburn::model {
namespace {

void read_qwen2(const Json&, const std::string&, ModelConfig& config) {
  config.attention_bias = true;  // whatever the file says
  config.attention_output_bias = false;
}

void write_qwen2(const ModelConfig&, Json& json) {
  json.erase("attention_bias");
  json.erase("mlp_bias");
}

void read_qwen3(const Json&, const std::string&, ModelConfig& config) {
  config.query_key_norm = QueryKeyNorm::per_head;
}

// Every fourth layer has no RoPE, unless the file lists them; in files, a 1 is a layer with RoPE.
void read_smollm3(const Json& json, const std::string& origin, ModelConfig& config) {
  const int64_t layers = config.num_hidden_layers;
  const auto interval = optional<int64_t>(json, "no_rope_layer_interval", 4, origin);
  if (interval < 1) fail("{}: no_rope_layer_interval is {}, expected at least 1", origin, interval);
  const auto with_rope = optional<std::vector<int64_t>>(json, "no_rope_layers", {}, origin);
  if (!with_rope.empty() && std::ssize(with_rope) < layers) {
    fail("{}: {} no_rope_layers for {} layers", origin, with_rope.size(), layers);
  }
  for (int64_t layer = 0; layer < layers; ++layer) {
    config.no_rope_layers.push_back(with_rope.empty() ? (layer + 1) % interval == 0 : with_rope[layer] == 0);
  }
}

void write_smollm3(const ModelConfig& config, Json& json) {
  json["no_rope_layers"] = Json::array();
  for (const bool without : config.no_rope_layers) json["no_rope_layers"].push_back(without ? 0 : 1);
}

void read_olmo2(const Json&, const std::string&, ModelConfig& config) {
  config.query_key_norm = QueryKeyNorm::whole;
  config.norms_before = false;
  config.norms_after = true;
}

void read_granite(const Json& json, const std::string& origin, ModelConfig& config) {
  config.embedding_scale = optional<double>(json, "embedding_multiplier", 1, origin);
  config.residual_scale = optional<double>(json, "residual_multiplier", 1, origin);
  config.attention_scale = optional<double>(json, "attention_multiplier", 1, origin);
  config.logit_scale = 1 / optional<double>(json, "logits_scaling", 1, origin);
}

void write_granite(const ModelConfig& config, Json& json) {
  json["embedding_multiplier"] = config.embedding_scale;
  json["residual_multiplier"] = config.residual_scale;
  json["attention_multiplier"] = config.attention_scale;
  json["logits_scaling"] = 1 / config.logit_scale;
}

// What Gemma 2 and 3 share. Every `pattern`-th layer sees everything, unless the file lists them.
void read_gemma(const Json& json, const std::string& origin, ModelConfig& config, int64_t pattern) {
  config.norms_after = true;
  config.norm_adds_one = true;
  config.hidden_act = optional<std::string>(json, "hidden_activation", "gelu_pytorch_tanh", origin);
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  config.attention_scale = 1 / std::sqrt(optional<double>(json, "query_pre_attn_scalar", 256, origin));
  config.tie_word_embeddings = optional<bool>(json, "tie_word_embeddings", true, origin);
  if (optional<bool>(json, "use_bidirectional_attention", false, origin)) {
    fail("{}: bidirectional attention is not supported", origin);
  }
  if (!json.contains("layer_types")) {
    for (size_t layer = 0; layer < config.sliding_windows.size(); ++layer) {
      if ((static_cast<int64_t>(layer) + 1) % pattern == 0) config.sliding_windows[layer] = 0;
    }
  }
}

void write_gemma(const ModelConfig& config, Json& json) {
  json.erase("hidden_act");
  json["hidden_activation"] = config.hidden_act;
  json["query_pre_attn_scalar"] = std::llround(1 / (config.attention_scale * config.attention_scale));
}

void read_gemma2(const Json& json, const std::string& origin, ModelConfig& config) {
  read_gemma(json, origin, config, 2);
  config.attention_softcap = optional<double>(json, "attn_logit_softcapping", 0, origin);
  config.logit_softcap = optional<double>(json, "final_logit_softcapping", 0, origin);
}

void write_gemma2(const ModelConfig& config, Json& json) {
  write_gemma(config, json);
  const auto cap = [](double value) { return value == 0 ? Json() : Json(value); };
  json["attn_logit_softcapping"] = cap(config.attention_softcap);
  json["final_logit_softcapping"] = cap(config.logit_softcap);
}

void read_gemma3(const Json& json, const std::string& origin, ModelConfig& config) {
  const auto pattern = optional<int64_t>(json, "sliding_window_pattern", 6, origin);
  if (pattern < 1) fail("{}: sliding_window_pattern is {}, expected at least 1", origin, pattern);
  read_gemma(json, origin, config, pattern);
  config.query_key_norm = QueryKeyNorm::per_head;
  config.local_rope_theta = optional<double>(json, "rope_local_base_freq", 10000.0, origin);
  if (!json.contains("rope_theta") && !json.contains("rope_parameters")) config.rope_theta = 1e6;
  // Transformers 5 has a map for each kind of layer.
  if (const auto rope = json.find("rope_parameters"); rope != json.end() && rope->contains("sliding_attention")) {
    config.local_rope_theta =
        optional<double>((*rope)["sliding_attention"], "rope_theta", config.local_rope_theta, origin);
  }
}

void write_gemma3(const ModelConfig& config, Json& json) {
  write_gemma(config, json);
  json["rope_local_base_freq"] = config.local_rope_theta;
}

void read_phi3(const Json& json, const std::string& origin, ModelConfig& config) {
  config.fused_projections = true;
  if (config.attention_bias) fail("{}: attention_bias is not supported for phi3", origin);
  double share = optional<double>(json, "partial_rotary_factor", 1, origin);
  if (const auto rope = json.find("rope_parameters"); rope != json.end() && rope->is_object()) {
    share = optional<double>(*rope, "partial_rotary_factor", share, origin);
  }
  if (!(share > 0) || share > 1) fail("{}: partial_rotary_factor is {}, expected above 0 and at most 1", origin, share);
  config.rotary_dim = share == 1 ? 0 : static_cast<int64_t>(static_cast<double>(config.head_dim) * share);
  if (share != 1 && config.rotary_dim < 2) fail("{}: partial_rotary_factor is {}, which turns nothing", origin, share);
}

// Transformers 4 wants these three keys in "rope_scaling" and no other, and the original length beside it.
void write_phi3(const ModelConfig& config, Json& json) {
  const RopeScaling& scaling = config.rope_scaling;
  const auto turned = static_cast<double>(config.rotary_dim == 0 ? config.head_dim : config.rotary_dim);
  json["partial_rotary_factor"] = turned / static_cast<double>(config.head_dim);
  if (scaling.type != "longrope") return;
  json["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  if (scaling.factor != 0 || scaling.attention_factor != 0) return;  // no published file has them
  json["rope_scaling"] = {
      {"type", scaling.type}, {"short_factor", scaling.short_factor}, {"long_factor", scaling.long_factor}};
}

void read_mixtral(const Json& json, const std::string& origin, ModelConfig& config) {
  MixtureOfExperts& mixture = config.mixture;
  mixture.num_experts = optional<int64_t>(json, "num_local_experts", 8, origin);
  mixture.num_experts_per_tok = optional<int64_t>(json, "num_experts_per_tok", 2, origin);
  mixture.moe_intermediate_size = config.intermediate_size;
  mixture.norm_topk_prob = true;
  check_mixture(mixture, origin);
  mixture.dense_layers.assign(config.num_hidden_layers, false);
}

void write_mixtral(const ModelConfig& config, Json& json) {
  json["num_local_experts"] = config.mixture.num_experts;
  json["num_experts_per_tok"] = config.mixture.num_experts_per_tok;
}

// Every `decoder_sparse_step`-th layer has experts, but those that `mlp_only_layers` lists.
void read_qwen3_moe(const Json& json, const std::string& origin, ModelConfig& config) {
  config.query_key_norm = QueryKeyNorm::per_head;
  MixtureOfExperts& mixture = config.mixture;
  // Transformers 5 writes num_local_experts.
  mixture.num_experts = json.contains("num_experts") ? require<int64_t>(json, "num_experts", origin)
                                                     : require<int64_t>(json, "num_local_experts", origin);
  mixture.num_experts_per_tok = optional<int64_t>(json, "num_experts_per_tok", 8, origin);
  mixture.moe_intermediate_size = optional<int64_t>(json, "moe_intermediate_size", 768, origin);
  mixture.norm_topk_prob = optional<bool>(json, "norm_topk_prob", false, origin);
  const auto step = optional<int64_t>(json, "decoder_sparse_step", 1, origin);
  check_mixture(mixture, origin);
  if (step < 1) fail("{}: decoder_sparse_step is {}, expected at least 1", origin, step);
  const auto plain = optional<std::vector<int64_t>>(json, "mlp_only_layers", {}, origin);
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const bool listed = std::find(plain.begin(), plain.end(), layer) != plain.end();
    mixture.dense_layers.push_back(listed || (layer + 1) % step != 0);
  }
}

void write_qwen3_moe(const ModelConfig& config, Json& json) {
  const MixtureOfExperts& mixture = config.mixture;
  json["num_experts"] = mixture.num_experts;
  json["num_experts_per_tok"] = mixture.num_experts_per_tok;
  json["moe_intermediate_size"] = mixture.moe_intermediate_size;
  json["norm_topk_prob"] = mixture.norm_topk_prob;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = Json::array();
  for (size_t layer = 0; layer < mixture.dense_layers.size(); ++layer) {
    if (mixture.dense_layers[layer]) json["mlp_only_layers"].push_back(layer);
  }
}

constexpr std::array<Family, 13> families = {{{"llama", "LlamaForCausalLM"},
                                              {"mistral", "MistralForCausalLM"},
                                              {"ministral", "MinistralForCausalLM"},
                                              {"qwen2", "Qwen2ForCausalLM", &read_qwen2, &write_qwen2},
                                              {"qwen3", "Qwen3ForCausalLM", &read_qwen3},
                                              {"mixtral", "MixtralForCausalLM", &read_mixtral, &write_mixtral},
                                              {"qwen3_moe", "Qwen3MoeForCausalLM", &read_qwen3_moe, &write_qwen3_moe},
                                              {"phi3", "Phi3ForCausalLM", &read_phi3, &write_phi3},
                                              {"smollm3", "SmolLM3ForCausalLM", &read_smollm3, &write_smollm3},
                                              {"olmo2", "Olmo2ForCausalLM", &read_olmo2},
                                              {"granite", "GraniteForCausalLM", &read_granite, &write_granite},
                                              {"gemma2", "Gemma2ForCausalLM", &read_gemma2, &write_gemma2},
                                              {"gemma3_text", "Gemma3ForCausalLM", &read_gemma3, &write_gemma3}}};

}  // namespace

void check_mixture(const MixtureOfExperts& mixture, const std::string& origin) {
  const int64_t experts = mixture.num_experts, chosen = mixture.num_experts_per_tok;
  const int64_t width = mixture.moe_intermediate_size;
  if (experts < 1 || experts > 4096 || chosen < 1 || chosen > experts || width < 1 || width > 1 << 19) {
    fail("{}: a mixture of {} experts of width {}, {} a token: out of range", origin, experts, width, chosen);
  }
}

void check_size(const ModelConfig& config, size_t tensors, bool experts_apart, const std::string& origin) {
  const int64_t layers = config.num_hidden_layers, experts = config.mixture.num_experts;
  // The lists of all tensors grow with layers times experts; the largest published model has 61 times 384.
  constexpr int64_t most_experts = 1 << 16;
  if (layers * experts > most_experts) {
    fail("{}: {} layers of {} experts: at most {} experts in all make sense", origin, layers, experts, most_experts);
  }
  int64_t least = layers;  // an MLP's matrix, or a router
  if (experts_apart) {
    for (int64_t layer = 0; layer < layers; ++layer) {
      if (config.has_experts(static_cast<size_t>(layer))) least += experts;
    }
  }
  if (least > static_cast<int64_t>(tensors)) {
    fail("{}: {} layers{} are claimed, but the weights are only {} tensors", origin, layers,
         experts == 0 ? "" : fmt::format(" of {} experts", experts), tensors);
  }
}

std::span<const Family> known_families() { return families; }

const Family& family_of(const std::string& architecture, const std::string& origin) {
  for (const Family& family : families) {
    if (architecture == family.architecture) return family;
  }
  fail("{}: model_type \"{}\" is unknown (supported: {})", origin, architecture, known_architectures());
}

}  // namespace backburn::model
