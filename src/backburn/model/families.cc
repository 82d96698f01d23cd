#include "backburn/model/families.h"

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

constexpr std::array<Family, 10> families = {{{"llama", "LlamaForCausalLM"},
                                              {"mistral", "MistralForCausalLM"},
                                              {"ministral", "MinistralForCausalLM"},
                                              {"qwen2", "Qwen2ForCausalLM", &read_qwen2, &write_qwen2},
                                              {"qwen3", "Qwen3ForCausalLM", &read_qwen3},
                                              {"smollm3", "SmolLM3ForCausalLM", &read_smollm3, &write_smollm3},
                                              {"olmo2", "Olmo2ForCausalLM", &read_olmo2},
                                              {"granite", "GraniteForCausalLM", &read_granite, &write_granite},
                                              {"gemma2", "Gemma2ForCausalLM", &read_gemma2, &write_gemma2},
                                              {"gemma3_text", "Gemma3ForCausalLM", &read_gemma3, &write_gemma3}}};

}  // namespace

std::span<const Family> known_families() { return families; }

const Family& family_of(const std::string& architecture, const std::string& origin) {
  for (const Family& family : families) {
    if (architecture == family.architecture) return family;
  }
  fail("{}: model_type \"{}\" is unknown (supported: {})", origin, architecture, known_architectures());
}

}  // namespace backburn::model
