#include "backburn/model/config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "backburn/model/config_fields.h"
#include "backburn/model/families.h"

namespace backburn::model {
namespace {

void refuse(bool condition, const std::string& origin, const char* feature) {
  if (condition) fail("{}: {} is not supported yet", origin, feature);
}

// `json`: the whole file. Where it gives the original length outside of the map, that one counts.
RopeScaling read_scaling(const Json& rope, const Json& json, const std::string& type, const std::string& origin) {
  RopeScaling scaling;
  scaling.type = type == "su" ? "longrope" : type;  // its name in the first files of Phi-3
  const std::vector<std::string> known = {"default", "linear", "dynamic", "llama3", "yarn", "longrope"};
  if (std::find(known.begin(), known.end(), scaling.type) == known.end()) {
    fail("{}: RoPE scaling \"{}\" is not supported (supported: {})", origin, type, fmt::join(known, ", "));
  }
  if (scaling.type == "default") return scaling;
  const bool may_lack_factor = scaling.type == "longrope";
  scaling.factor =
      may_lack_factor ? optional<double>(rope, "factor", 0, origin) : require<double>(rope, "factor", origin);
  if (!(scaling.factor > 0) && !(may_lack_factor && scaling.factor == 0)) {
    fail("{}: RoPE scaling's factor is {}, expected more than 0", origin, scaling.factor);
  }
  if (!scaling.has_original_length()) return scaling;
  constexpr const char* original = "original_max_position_embeddings";
  scaling.original_max_position_embeddings = require<int64_t>(json.contains(original) ? json : rope, original, origin);
  if (scaling.original_max_position_embeddings < 2) {
    fail("{}: RoPE scaling's {} is {}, expected at least 2", origin, original,
         scaling.original_max_position_embeddings);
  }
  if (scaling.type == "llama3") {
    scaling.low_freq_factor = require<double>(rope, "low_freq_factor", origin);
    scaling.high_freq_factor = require<double>(rope, "high_freq_factor", origin);
    if (!(scaling.low_freq_factor > 0) || !(scaling.high_freq_factor > scaling.low_freq_factor)) {
      fail("{}: RoPE scaling: expected 0 < low_freq_factor < high_freq_factor", origin);
    }
    return scaling;
  }
  scaling.attention_factor = optional<double>(rope, "attention_factor", 0, origin);
  if (!(scaling.attention_factor >= 0)) {
    fail("{}: RoPE scaling's attention_factor is {}, expected more than 0", origin, scaling.attention_factor);
  }
  if (scaling.type == "longrope") {
    scaling.short_factor = require<std::vector<double>>(rope, "short_factor", origin);
    scaling.long_factor = require<std::vector<double>>(rope, "long_factor", origin);
    return scaling;
  }
  scaling.beta_fast = optional<double>(rope, "beta_fast", 32, origin);
  scaling.beta_slow = optional<double>(rope, "beta_slow", 1, origin);
  scaling.truncate = optional<bool>(rope, "truncate", true, origin);
  if (!(scaling.beta_slow > 0) || !(scaling.beta_fast > scaling.beta_slow)) {
    fail("{}: RoPE scaling: expected 0 < beta_slow < beta_fast", origin);
  }
  // DeepSeek's way to say attention_factor.
  const auto mscale = optional<double>(rope, "mscale", 0, origin);
  const auto mscale_all_dim = optional<double>(rope, "mscale_all_dim", 0, origin);
  if (scaling.attention_factor == 0 && mscale != 0 && mscale_all_dim != 0) {
    const double grown = 0.1 * std::log(std::max(scaling.factor, 1.0));
    scaling.attention_factor = (grown * mscale + 1) / (grown * mscale_all_dim + 1);
  }
  return scaling;
}

Json write_scaling(const RopeScaling& scaling) {
  Json json = {{"rope_type", scaling.type}};
  if (scaling.factor != 0) json["factor"] = scaling.factor;
  if (scaling.has_original_length())
    json["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  if (scaling.attention_factor != 0) json["attention_factor"] = scaling.attention_factor;
  if (scaling.type == "llama3") {
    json.update({{"low_freq_factor", scaling.low_freq_factor}, {"high_freq_factor", scaling.high_freq_factor}});
  } else if (scaling.type == "yarn") {
    json.update({{"beta_fast", scaling.beta_fast}, {"beta_slow", scaling.beta_slow}, {"truncate", scaling.truncate}});
  } else if (scaling.type == "longrope") {
    json.update({{"short_factor", scaling.short_factor}, {"long_factor", scaling.long_factor}});
  }
  return json;
}

// Transformers 5 moved rope_theta into "rope_parameters"; both layouts also name the kind of scaling.
void read_rope(const Json& json, const std::string& origin, ModelConfig& config) {
  config.rope_theta = optional<double>(json, "rope_theta", 10000.0, origin);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    auto rope = json.find(key);
    if (rope == json.end() || rope->is_null()) continue;
    if (!rope->is_object()) fail("{}: key \"{}\" must be a map", origin, key);
    if (rope->contains("full_attention")) rope = rope->find("full_attention");  // one map for each kind of layer
    const std::string legacy = optional<std::string>(*rope, "type", "default", origin);
    config.rope_scaling = read_scaling(*rope, json, optional<std::string>(*rope, "rope_type", legacy, origin), origin);
    config.rope_theta = optional<double>(*rope, "rope_theta", config.rope_theta, origin);
    return;
  }
}

// "sliding_window" is for the layers that "layer_types" names, or for all. Qwen's files carry one that is switched off.
std::vector<int64_t> read_windows(const Json& json, const std::string& origin, int64_t layers) {
  const auto window = optional<int64_t>(json, "sliding_window", 0, origin);
  if (window < 0) fail("{}: sliding_window is {}, expected at least 1", origin, window);
  if (window == 0 || !optional<bool>(json, "use_sliding_window", true, origin)) return {};
  std::vector<int64_t> windows(layers, window);
  const auto types = optional<std::vector<std::string>>(json, "layer_types", {}, origin);
  if (types.empty()) {
    refuse(json.contains("max_window_layers"), origin, "sliding-window attention without \"layer_types\"");
    return windows;
  }
  if (std::ssize(types) != layers) fail("{}: {} layer_types for {} layers", origin, types.size(), layers);
  for (size_t layer = 0; layer < types.size(); ++layer) {
    if (types[layer] == "full_attention") {
      windows[layer] = 0;
    } else if (types[layer] != "sliding_attention") {
      fail("{}: layer_types names \"{}\", expected full_attention or sliding_attention", origin, types[layer]);
    }
  }
  return windows;
}

std::vector<int64_t> read_ids(const Json& json, const char* key, const std::string& origin) {
  auto found = json.find(key);
  if (found == json.end() || found->is_null()) return {};
  if (found->is_array()) return require<std::vector<int64_t>>(json, key, origin);
  return {require<int64_t>(json, key, origin)};
}

}  // namespace

void check_rope(const ModelConfig& config, const std::string& origin) {
  const int64_t turned = config.rotary_dim == 0 ? config.head_dim : config.rotary_dim;
  if (turned < 2 || turned % 2 != 0 || turned > config.head_dim) {
    fail("{}: RoPE turns {} of a head's {} dimensions, expected an even number of them", origin, turned,
         config.head_dim);
  }
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.type != "longrope") return;
  for (const auto* factors : {&scaling.short_factor, &scaling.long_factor}) {
    const bool positive = std::all_of(factors->begin(), factors->end(), [](double each) { return each > 0; });
    if (std::ssize(*factors) != turned / 2 || !positive) {
      fail("{}: longrope's short_factor and long_factor must be {} positive numbers each", origin, turned / 2);
    }
  }
}

ModelConfig config_from_hugging_face(const Json& json, const std::string& origin) {
  if (!json.is_object()) fail("{}: expected a JSON object", origin);
  ModelConfig config;
  config.architecture = require<std::string>(json, "model_type", origin);
  const Family& family = family_of(config.architecture, origin);
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
  read_rope(json, origin, config);
  config.attention_bias = optional<bool>(json, "attention_bias", false, origin);
  config.attention_output_bias = config.attention_bias;
  config.tie_word_embeddings = optional<bool>(json, "tie_word_embeddings", false, origin);
  refuse(optional<bool>(json, "mlp_bias", false, origin), origin, "mlp_bias");
  config.hidden_act = optional<std::string>(json, "hidden_act", "silu", origin);
  const auto bos = read_ids(json, "bos_token_id", origin);
  const auto pad = read_ids(json, "pad_token_id", origin);
  config.bos_token_id = bos.empty() ? -1 : bos.front();
  config.pad_token_id = pad.empty() ? -1 : pad.front();
  config.stop_token_ids = read_ids(json, "eos_token_id", origin);
  check_config(config, origin);
  config.sliding_windows = read_windows(json, origin, config.num_hidden_layers);
  if (family.read != nullptr) family.read(json, origin, config);
  check_rope(config, origin);
  if (config.hidden_act != "silu" && config.hidden_act != "gelu_pytorch_tanh") {
    fail("{}: activation \"{}\" is not supported (supported: silu, gelu_pytorch_tanh)", origin, config.hidden_act);
  }
  return config;
}

std::string known_architectures() {
  std::string names;
  for (const Family& family : known_families()) names += (names.empty() ? "" : ", ") + std::string(family.architecture);
  return names;
}

Json config_to_hugging_face(const ModelConfig& config, const std::string& dtype) {
  const Family& family = family_of(config.architecture, "config_to_hugging_face");
  Json json;
  json["architectures"] = {family.class_name};
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
  json["hidden_act"] = config.hidden_act;
  json["attention_bias"] = config.attention_bias;
  json["mlp_bias"] = false;
  if (config.rope_scaling.type != "default") json["rope_scaling"] = write_scaling(config.rope_scaling);
  // Files of these families without the key have a window.
  json["sliding_window"] = nullptr;
  json["use_sliding_window"] = !config.sliding_windows.empty();
  if (!config.sliding_windows.empty()) {
    const int64_t window = *std::max_element(config.sliding_windows.begin(), config.sliding_windows.end());
    json["sliding_window"] = window;
    const bool some_layers = std::count(config.sliding_windows.begin(), config.sliding_windows.end(), window) <
                             std::ssize(config.sliding_windows);
    // Mistral, Mixtral and Phi-3 know no kinds of layers.
    const bool knows_kinds =
        config.architecture != "mistral" && config.architecture != "mixtral" && config.architecture != "phi3";
    if (some_layers || knows_kinds) {
      json["layer_types"] = Json::array();
      for (const int64_t each : config.sliding_windows) {
        json["layer_types"].push_back(each == 0 ? "full_attention" : "sliding_attention");
      }
    }
  }
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  // null, not left out: some families have a default, which may lie outside of this vocabulary.
  json["bos_token_id"] = config.bos_token_id >= 0 ? Json(config.bos_token_id) : Json();
  json["pad_token_id"] = config.pad_token_id >= 0 ? Json(config.pad_token_id) : Json();
  if (config.stop_token_ids.size() == 1) {
    json["eos_token_id"] = config.stop_token_ids.front();
  } else if (!config.stop_token_ids.empty()) {
    json["eos_token_id"] = config.stop_token_ids;
  }
  json["torch_dtype"] = dtype;
  if (family.write != nullptr) family.write(config, json);
  return json;
}

bool ModelConfig::is_plain() const {
  return no_rope_layers.empty() && sliding_windows.empty() && query_key_norm == QueryKeyNorm::none && norms_before &&
         !norms_after && !norm_adds_one && hidden_act == "silu" && embedding_scale == 1 && residual_scale == 1 &&
         attention_scale == 0 && logit_scale == 1 && attention_softcap == 0 && logit_softcap == 0 && rotary_dim == 0 &&
         !fused_projections && mixture.num_experts == 0;
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
  const int64_t mlp = 3 * config.hidden_size * config.intermediate_size;
  int64_t layer = config.hidden_size * (2 * queries + 2 * keys) + mlp + 2 * config.hidden_size;
  if (config.attention_bias) layer += queries + 2 * keys;
  if (config.attention_output_bias) layer += config.hidden_size;
  if (config.query_key_norm == QueryKeyNorm::per_head) layer += 2 * config.head_dim;
  if (config.query_key_norm == QueryKeyNorm::whole) layer += queries + keys;
  if (config.norms_before && config.norms_after) layer += 2 * config.hidden_size;
  const int64_t embeddings = config.vocab_size * config.hidden_size * (config.tie_word_embeddings ? 1 : 2);
  int64_t total = embeddings + config.num_hidden_layers * layer + config.hidden_size;
  const int64_t experts =
      config.mixture.num_experts * config.hidden_size * (3 * config.mixture.moe_intermediate_size + 1);
  for (int64_t index = 0; index < config.num_hidden_layers; ++index) {
    if (config.has_experts(index)) total += experts - mlp;
  }
  return total;
}

}  // namespace backburn::model
