#include "backburn/model/config.h"

#include "backburn/base/error.h"

namespace backburn::model {
namespace {

template <typename T>
T require(const Json& json, const char* key, const std::string& origin) {
  auto found = json.find(key);
  if (found == json.end() || found->is_null()) fail("{}: key \"{}\" is missing", origin, key);
  try {
    return found->get<T>();
  } catch (const Json::exception&) {
    fail("{}: key \"{}\" has the wrong type: {}", origin, key, found->dump().substr(0, 60));
  }
}

template <typename T>
T optional(const Json& json, const char* key, T fallback, const std::string& origin) {
  auto found = json.find(key);
  return found == json.end() || found->is_null() ? fallback : require<T>(json, key, origin);
}

void refuse(bool condition, const std::string& origin, const char* feature) {
  if (condition) fail("{}: {} is not supported yet (supported: llama and qwen2 with plain RoPE)", origin, feature);
}

// Transformers 5 moved rope_theta into "rope_parameters"; both layouts also name the kind of scaling.
double read_rope(const Json& json, const std::string& origin) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    auto rope = json.find(key);
    if (rope == json.end() || rope->is_null()) continue;
    if (!rope->is_object()) fail("{}: key \"{}\" must be a map", origin, key);
    const std::string legacy = optional<std::string>(*rope, "type", "default", origin);
    refuse(optional<std::string>(*rope, "rope_type", legacy, origin) != "default", origin, "RoPE scaling");
    if (rope->contains("rope_theta")) return require<double>(*rope, "rope_theta", origin);
  }
  return optional<double>(json, "rope_theta", 10000.0, origin);
}

std::vector<int64_t> read_ids(const Json& json, const char* key, const std::string& origin) {
  auto found = json.find(key);
  if (found == json.end() || found->is_null()) return {};
  if (found->is_array()) return require<std::vector<int64_t>>(json, key, origin);
  return {require<int64_t>(json, key, origin)};
}

}  // namespace

ModelConfig config_from_hugging_face(const Json& json, const std::string& origin) {
  if (!json.is_object()) fail("{}: expected a JSON object", origin);
  ModelConfig config;
  config.architecture = require<std::string>(json, "model_type", origin);
  const bool qwen2 = config.architecture == "qwen2";
  if (!qwen2 && config.architecture != "llama") {
    fail("{}: model_type \"{}\" is unknown (supported: llama, qwen2)", origin, config.architecture);
  }
  config.vocab_size = require<int64_t>(json, "vocab_size", origin);
  config.hidden_size = require<int64_t>(json, "hidden_size", origin);
  config.intermediate_size = require<int64_t>(json, "intermediate_size", origin);
  config.num_hidden_layers = require<int64_t>(json, "num_hidden_layers", origin);
  config.num_attention_heads = require<int64_t>(json, "num_attention_heads", origin);
  config.num_key_value_heads = optional<int64_t>(json, "num_key_value_heads", config.num_attention_heads, origin);
  if (config.num_attention_heads <= 0) fail("{}: num_attention_heads must be positive", origin);
  config.head_dim = optional<int64_t>(json, "head_dim", config.hidden_size / config.num_attention_heads, origin);
  config.max_position_embeddings = optional<int64_t>(json, "max_position_embeddings", 2048, origin);
  config.rms_norm_eps = optional<double>(json, "rms_norm_eps", 1e-6, origin);
  config.rope_theta = read_rope(json, origin);
  config.attention_bias = qwen2 || optional<bool>(json, "attention_bias", false, origin);
  config.attention_output_bias = !qwen2 && config.attention_bias;
  config.tie_word_embeddings = optional<bool>(json, "tie_word_embeddings", false, origin);
  refuse(optional<bool>(json, "mlp_bias", false, origin), origin, "mlp_bias");
  refuse(optional<bool>(json, "use_sliding_window", false, origin), origin, "sliding-window attention");
  refuse(optional<std::string>(json, "hidden_act", "silu", origin) != "silu", origin, "an activation other than silu");
  const auto bos = read_ids(json, "bos_token_id", origin);
  const auto pad = read_ids(json, "pad_token_id", origin);
  config.bos_token_id = bos.empty() ? -1 : bos.front();
  config.pad_token_id = pad.empty() ? -1 : pad.front();
  config.stop_token_ids = read_ids(json, "eos_token_id", origin);
  check_config(config, origin);
  return config;
}

Json config_to_hugging_face(const ModelConfig& config, const std::string& dtype) {
  const bool qwen2 = config.architecture == "qwen2";
  Json json;
  json["architectures"] = {qwen2 ? "Qwen2ForCausalLM" : "LlamaForCausalLM"};
  json["model_type"] = config.architecture;
  json["vocab_size"] = config.vocab_size;
  json["hidden_size"] = config.hidden_size;
  json["intermediate_size"] = config.intermediate_size;
  json["num_hidden_layers"] = config.num_hidden_layers;
  json["num_attention_heads"] = config.num_attention_heads;
  json["num_key_value_heads"] = config.num_key_value_heads;
  json["head_dim"] = config.head_dim;
  json["max_position_embeddings"] = config.max_position_embeddings;
  json["rms_norm_eps"] = config.rms_norm_eps;
  json["rope_theta"] = config.rope_theta;
  json["hidden_act"] = "silu";
  if (!qwen2) {
    json["attention_bias"] = config.attention_bias;
    json["mlp_bias"] = false;
  } else {
    json["use_sliding_window"] = false;
  }
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  if (config.bos_token_id >= 0) json["bos_token_id"] = config.bos_token_id;
  if (config.pad_token_id >= 0) json["pad_token_id"] = config.pad_token_id;
  if (config.stop_token_ids.size() == 1) {
    json["eos_token_id"] = config.stop_token_ids.front();
  } else if (!config.stop_token_ids.empty()) {
    json["eos_token_id"] = config.stop_token_ids;
  }
  json["torch_dtype"] = dtype;
  return json;
}

void check_config(const ModelConfig& config, const std::string& origin) {
  auto in_range = [&](int64_t value, int64_t limit, const char* name) {
    if (value < 1 || value > limit) fail("{}: {} is {}, expected 1 to {}", origin, name, value, limit);
  };
  in_range(config.vocab_size, 1 << 22, "vocab_size");
  in_range(config.hidden_size, 1 << 17, "hidden_size");
  in_range(config.intermediate_size, 1 << 19, "intermediate_size");
  in_range(config.num_hidden_layers, 1024, "num_hidden_layers");
  in_range(config.num_attention_heads, 4096, "num_attention_heads");
  in_range(config.num_key_value_heads, config.num_attention_heads, "num_key_value_heads");
  in_range(config.head_dim, 4096, "head_dim");
  in_range(config.max_position_embeddings, int64_t{1} << 26, "max_position_embeddings");
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    fail("{}: num_attention_heads ({}) must be a multiple of num_key_value_heads ({})", origin,
         config.num_attention_heads, config.num_key_value_heads);
  }
  if (config.head_dim % 2 != 0) fail("{}: head_dim is {}, RoPE needs an even one", origin, config.head_dim);
  if (!(config.rms_norm_eps > 0) || !(config.rope_theta > 0)) {
    fail("{}: rms_norm_eps and rope_theta must be positive", origin);
  }
  for (int64_t id : config.stop_token_ids) {
    if (id < 0 || id >= config.vocab_size) {
      fail("{}: eos_token_id {} is outside the vocabulary of {}", origin, id, config.vocab_size);
    }
  }
}

int64_t parameter_count(const ModelConfig& config) {
  const int64_t queries = config.num_attention_heads * config.head_dim;
  const int64_t keys = config.num_key_value_heads * config.head_dim;
  int64_t layer = config.hidden_size * (2 * queries + 2 * keys) + 3 * config.hidden_size * config.intermediate_size +
                  2 * config.hidden_size;
  if (config.attention_bias) layer += queries + 2 * keys;
  if (config.attention_output_bias) layer += config.hidden_size;
  const int64_t embeddings = config.vocab_size * config.hidden_size * (config.tie_word_embeddings ? 1 : 2);
  return embeddings + config.num_hidden_layers * layer + config.hidden_size;
}

}  // namespace backburn::model
