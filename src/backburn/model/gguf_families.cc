#include "backburn/model/gguf_families.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>

#include "backburn/base/error.h"

namespace backburn::model {
namespace {

constexpr int64_t control_token = 3;  // llama.cpp's LLAMA_TOKEN_TYPE_CONTROL

bool near(double left, double right) { return std::abs(left - right) <= 1e-6 * std::abs(right); }

// Whether layer `layer` has a window where llama.cpp gives one to all but every `pattern`-th.
bool windowed(int64_t layer, int64_t pattern) { return (layer + 1) % pattern != 0; }

void read_qwen2(const GgufFile&, const std::string&, ModelConfig& config) { config.attention_bias = true; }

void read_qwen3(const GgufFile&, const std::string&, ModelConfig& config) {
  config.query_key_norm = QueryKeyNorm::per_head;
}

// No file says so: every fourth layer has no RoPE.
constexpr int64_t smollm3_interval = 4;

void read_smollm3(const GgufFile&, const std::string&, ModelConfig& config) {
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    config.no_rope_layers.push_back((layer + 1) % smollm3_interval == 0);
  }
}

void write_smollm3(const ModelConfig& config, const std::string&, GgufMetadata&) {
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    if (config.has_rope(static_cast<size_t>(layer)) != ((layer + 1) % smollm3_interval != 0)) {
      fail("GGUF files can't say which layers of a SmolLM3 model have no RoPE, unless it is every fourth");
    }
  }
}

void read_olmo2(const GgufFile&, const std::string&, ModelConfig& config) {
  config.query_key_norm = QueryKeyNorm::whole;
  config.norms_before = false;
  config.norms_after = true;
}

void read_granite(const GgufFile& file, const std::string& prefix, ModelConfig& config) {
  config.embedding_scale = file.number(prefix + "embedding_scale", 1);
  config.residual_scale = file.number(prefix + "residual_scale", 1);
  config.attention_scale = file.number(prefix + "attention.scale", 0);
  config.logit_scale = 1 / file.number(prefix + "logit_scale");
}

void write_granite(const ModelConfig& config, const std::string& prefix, GgufMetadata& metadata) {
  metadata.number(prefix + "attention.scale", config.attention_scale);
  metadata.number(prefix + "embedding_scale", config.embedding_scale);
  metadata.number(prefix + "residual_scale", config.residual_scale);
  metadata.number(prefix + "logit_scale", 1 / config.logit_scale);
}

// What llama.cpp scales Gemma's scores by: the largest models have another rule, and no file says so.
double gemma_attention_scale(const ModelConfig& config, int64_t layers_of_27b) {
  const bool largest = config.num_hidden_layers == layers_of_27b;
  return 1 /
         std::sqrt(static_cast<double>(largest ? config.hidden_size / config.num_attention_heads : config.head_dim));
}

struct GemmaRules {
  int64_t pattern;        // every so many layers, one sees everything
  int64_t layers_of_27b;  // see gemma_attention_scale
};
constexpr GemmaRules gemma2{2, 46};
constexpr GemmaRules gemma3{6, 62};

void read_gemma(const GgufFile& file, const std::string& prefix, const GemmaRules& rules, ModelConfig& config) {
  config.norms_after = true;
  config.norm_adds_one = true;
  config.hidden_act = "gelu_pytorch_tanh";
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  config.attention_scale = gemma_attention_scale(config, rules.layers_of_27b);
  const int64_t window = file.integer(prefix + "attention.sliding_window", 0);
  if (window < 0) fail("{}: {}attention.sliding_window is {}", file.path().string(), prefix, window);
  for (int64_t layer = 0; window > 0 && layer < config.num_hidden_layers; ++layer) {
    config.sliding_windows.push_back(windowed(layer, rules.pattern) ? window : 0);
  }
}

void write_gemma(const ModelConfig& config, const std::string& prefix, const GemmaRules& rules,
                 GgufMetadata& metadata) {
  if (!near(config.attention_scale, gemma_attention_scale(config, rules.layers_of_27b))) {
    fail("GGUF files can't say that a Gemma model has query_pre_attn_scalar {:.0f}; llama.cpp expects {:.0f}",
         std::pow(config.attention_scale, -2), std::pow(gemma_attention_scale(config, rules.layers_of_27b), -2));
  }
  int64_t window = 0;
  for (const int64_t each : config.sliding_windows) window = std::max(window, each);
  for (int64_t layer = 0; window > 0 && layer < config.num_hidden_layers; ++layer) {
    if (config.sliding_window(static_cast<size_t>(layer)) != (windowed(layer, rules.pattern) ? window : 0)) {
      fail("GGUF files can't say which layers of a Gemma model have windows, unless it is all but every {}th",
           rules.pattern);
    }
  }
  if (window > 0) metadata.integer(prefix + "attention.sliding_window", window);
}

void read_gemma2(const GgufFile& file, const std::string& prefix, ModelConfig& config) {
  read_gemma(file, prefix, gemma2, config);
  config.attention_softcap = file.number(prefix + "attn_logit_softcapping", 50);
  config.logit_softcap = file.number(prefix + "final_logit_softcapping", 30);
}

void write_gemma2(const ModelConfig& config, const std::string& prefix, GgufMetadata& metadata) {
  if (config.attention_softcap == 0 || config.logit_softcap == 0) {
    fail("GGUF files can't say that a Gemma 2 model has no soft caps");
  }
  write_gemma(config, prefix, gemma2, metadata);
  metadata.number(prefix + "attn_logit_softcapping", config.attention_softcap);
  metadata.number(prefix + "final_logit_softcapping", config.logit_softcap);
}

void read_gemma3(const GgufFile& file, const std::string& prefix, ModelConfig& config) {
  read_gemma(file, prefix, gemma3, config);
  config.query_key_norm = QueryKeyNorm::per_head;
  config.local_rope_theta = file.number(prefix + "rope.freq_base_swa", 10000);
  config.logit_softcap = file.number(prefix + "final_logit_softcapping", 0);
}

void write_gemma3(const ModelConfig& config, const std::string& prefix, GgufMetadata& metadata) {
  write_gemma(config, prefix, gemma3, metadata);
  metadata.number(prefix + "rope.freq_base_swa", config.local_rope_theta);
  if (config.logit_softcap != 0) metadata.number(prefix + "final_logit_softcapping", config.logit_softcap);
}

constexpr GgufFamily families[] = {{"llama", "llama", true},
                                   {"llama", "mistral", true},
                                   {"qwen2", "qwen2", false, &read_qwen2},
                                   {"qwen3", "qwen3", false, &read_qwen3},
                                   {"smollm3", "smollm3", true, &read_smollm3, &write_smollm3},
                                   {"olmo2", "olmo2", false, &read_olmo2},
                                   {"granite", "granite", true, &read_granite, &write_granite},
                                   {"gemma2", "gemma2", false, &read_gemma2, &write_gemma2},
                                   {"gemma3", "gemma3_text", false, &read_gemma3, &write_gemma3}};

// The token under `key`, or -1; an Error when it lies outside the vocabulary.
int64_t special_token(const GgufFile& file, const std::string& key, int64_t vocab_size) {
  if (file.find(key) == nullptr) return -1;
  const int64_t id = file.integer(key);
  if (id < 0 || id >= vocab_size) {
    fail("{}: {} is {}, outside the vocabulary of {}", file.path().string(), key, id, vocab_size);
  }
  return id;
}

std::vector<int64_t> stop_tokens(const GgufFile& file, int64_t vocab_size) {
  std::vector<int64_t> stops;
  auto add = [&](int64_t id) {
    if (id >= 0 && std::find(stops.begin(), stops.end(), id) == stops.end()) stops.push_back(id);
  };
  add(special_token(file, "tokenizer.ggml.eos_token_id", vocab_size));
  add(special_token(file, "tokenizer.ggml.eot_token_id", vocab_size));
  if (file.find("tokenizer.ggml.tokens") == nullptr || file.find("tokenizer.ggml.token_type") == nullptr) return stops;
  const auto& tokens = file.strings("tokenizer.ggml.tokens");
  const auto& types = file.integers("tokenizer.ggml.token_type");
  for (size_t id = 0; id < std::min(tokens.size(), types.size()); ++id) {
    if (types[id] != control_token) continue;
    for (const char* end : {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>"}) {
      if (tokens[id] == end && static_cast<int64_t>(id) < vocab_size) add(static_cast<int64_t>(id));
    }
  }
  return stops;
}

// Llama 3's scaling out of the factors that llama.cpp stores instead. All published models have low_freq_factor 1 and
// high_freq_factor 4; the largest factor is the scaling's own, and one in between tells the original context. Errors:
// factors that are not made so.
RopeScaling scaling_of_factors(const GgufFile& file, const GgufTensor& stored, const ModelConfig& config) {
  const std::string origin = file.path().string();
  std::vector<float> factors(static_cast<size_t>(stored.values()));
  dequantize(stored.type, file.bytes(stored), factors);
  RopeScaling scaling{.type = "llama3", .original_max_position_embeddings = 8192};
  if (std::ssize(factors) == config.head_dim / 2) {
    scaling.factor = static_cast<double>(*std::max_element(factors.begin(), factors.end()));
    for (size_t i = 0; i < factors.size(); ++i) {
      const auto factor = static_cast<double>(factors[i]);
      if (!(factor > 1) || !(factor < scaling.factor * 0.999)) continue;
      const double kept = (1 / factor - 1 / scaling.factor) / (1 - 1 / scaling.factor);
      const double turns = scaling.low_freq_factor + kept * (scaling.high_freq_factor - scaling.low_freq_factor);
      const double share = 2 * static_cast<double>(i) / static_cast<double>(config.head_dim);
      const double original = turns * 2 * M_PI * std::pow(config.rope_theta, share);
      if (!(original >= 1) || original > 1e9) break;
      scaling.original_max_position_embeddings = std::llround(original);
      break;
    }
    ModelConfig made = config;
    made.rope_scaling = scaling;
    const auto again = rope_frequency_factors(made);
    const bool equal = std::equal(factors.begin(), factors.end(), again.begin(),
                                  [](float left, float right) { return std::abs(left - right) <= 1e-3f * right; });
    if (equal) return scaling;
  }
  fail("{}: rope_freqs.weight does not hold the factors of Llama 3's RoPE scaling, others are not supported yet",
       origin);
}

RopeScaling read_scaling(const GgufFile& file, const std::string& prefix, const ModelConfig& config) {
  const std::string key = prefix + "rope.scaling.type";
  const std::string type = file.find(key) == nullptr ? "none" : file.string(key);
  if (type != "none" && type != "linear") {
    fail("{}: RoPE scaling \"{}\" is not supported yet (supported: none, linear, and Llama 3's)", file.path().string(),
         type);
  }
  if (const GgufTensor* factors = file.find_tensor("rope_freqs.weight")) {
    return scaling_of_factors(file, *factors, config);
  }
  if (type == "none") return {};
  RopeScaling scaling{"linear", file.number(prefix + "rope.scaling.factor")};
  if (!(scaling.factor > 0)) {
    fail("{}: {}rope.scaling.factor is {}, expected more than 0", file.path().string(), prefix, scaling.factor);
  }
  return scaling;
}

void refuse_uncomputed(const GgufFile& file, const std::string& prefix, const ModelConfig& config) {
  const std::string origin = file.path().string();
  if (file.integer("split.count", 1) > 1) {
    fail("{}: is one part of {}; join them with llama-gguf-split --merge", origin, file.integer("split.count"));
  }
  if (file.integer(prefix + "expert_count", 0) > 0) fail("{}: mixtures of experts are not supported yet", origin);
  const int64_t rotated = file.integer(prefix + "rope.dimension_count", config.head_dim);
  if (rotated != config.head_dim) {
    fail("{}: {}rope.dimension_count is {}, expected the whole head of {}", origin, prefix, rotated, config.head_dim);
  }
  const int64_t value_length = file.integer(prefix + "attention.value_length", config.head_dim);
  if (value_length != config.head_dim) {
    fail("{}: values of {} in heads of {} are not supported", origin, value_length, config.head_dim);
  }
  if (config.sliding_windows.empty() && file.integer(prefix + "attention.sliding_window", 0) > 0) {
    fail("{}: sliding windows of architecture \"{}\" are not supported yet in GGUF files", origin, config.architecture);
  }
}

}  // namespace

const GgufFamily& gguf_family_of_architecture(const std::string& architecture, const std::string& origin) {
  std::string known;
  for (const GgufFamily& family : families) {
    if (architecture == family.architecture) return family;
    if (known.find(family.architecture) == std::string::npos) {
      known += (known.empty() ? "" : ", ") + std::string(family.architecture);
    }
  }
  fail("{}: architecture \"{}\" is unknown (supported: {})", origin, architecture, known);
}

const GgufFamily& gguf_family_of(const std::string& model_type) {
  std::string known;
  for (const GgufFamily& family : families) {
    if (model_type == family.model_type) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  fail("GGUF files have no form for model_type \"{}\" here (supported: {}); export safetensors instead", model_type,
       known);
}

ModelConfig config_from_gguf(const GgufFile& file) {
  const std::string origin = file.path().string();
  const GgufFamily& family = gguf_family_of_architecture(file.string("general.architecture"), origin);
  const std::string prefix = std::string(family.architecture) + ".";
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr) fail("{}: tensor \"token_embd.weight\" is missing", origin);
  ModelConfig config;
  config.architecture = family.model_type;
  config.vocab_size = embedding->shape.front();
  config.hidden_size = file.integer(prefix + "embedding_length");
  config.intermediate_size = file.integer(prefix + "feed_forward_length");
  config.num_hidden_layers = file.integer(prefix + "block_count");
  config.num_attention_heads = file.integer(prefix + "attention.head_count");
  config.num_key_value_heads = file.integer(prefix + "attention.head_count_kv", config.num_attention_heads);
  if (config.num_attention_heads < 1) {
    fail("{}: {}attention.head_count is {}, expected at least 1", origin, prefix, config.num_attention_heads);
  }
  config.head_dim = file.integer(prefix + "attention.key_length", config.hidden_size / config.num_attention_heads);
  config.max_position_embeddings = file.integer(prefix + "context_length");
  config.rms_norm_eps = file.number(prefix + "attention.layer_norm_rms_epsilon");
  config.rope_theta = file.number(prefix + "rope.freq_base", config.rope_theta);
  config.attention_bias = file.find_tensor("blk.0.attn_q.bias") != nullptr;
  config.attention_output_bias = file.find_tensor("blk.0.attn_output.bias") != nullptr;
  config.tie_word_embeddings = file.find_tensor("output.weight") == nullptr;
  config.bos_token_id = special_token(file, "tokenizer.ggml.bos_token_id", config.vocab_size);
  config.pad_token_id = special_token(file, "tokenizer.ggml.padding_token_id", config.vocab_size);
  config.stop_token_ids = stop_tokens(file, config.vocab_size);
  check_config(config, origin);
  config.rope_scaling = read_scaling(file, prefix, config);
  if (family.read != nullptr) family.read(file, prefix, config);
  refuse_uncomputed(file, prefix, config);
  return config;
}

void config_to_gguf(const ModelConfig& config, GgufMetadata& metadata) {
  const GgufFamily& family = gguf_family_of(config.architecture);
  const std::string prefix = std::string(family.architecture) + ".";
  metadata.integer(prefix + "block_count", config.num_hidden_layers);
  metadata.integer(prefix + "context_length", config.max_position_embeddings);
  metadata.integer(prefix + "embedding_length", config.hidden_size);
  metadata.integer(prefix + "feed_forward_length", config.intermediate_size);
  metadata.integer(prefix + "attention.head_count", config.num_attention_heads);
  metadata.integer(prefix + "attention.head_count_kv", config.num_key_value_heads);
  metadata.integer(prefix + "attention.key_length", config.head_dim);
  metadata.integer(prefix + "attention.value_length", config.head_dim);
  metadata.number(prefix + "attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  metadata.integer(prefix + "rope.dimension_count", config.head_dim);
  metadata.number(prefix + "rope.freq_base", config.rope_theta);
  metadata.integer(prefix + "vocab_size", config.vocab_size);
  if (config.rope_scaling.type == "linear") {
    metadata.text(prefix + "rope.scaling.type", "linear");
    metadata.number(prefix + "rope.scaling.factor", config.rope_scaling.factor);
  } else if (config.rope_scaling.type != "default" && config.rope_scaling.type != "llama3") {
    fail("RoPE scaling \"{}\" is not written to GGUF files yet", config.rope_scaling.type);
  }
  if (family.write != nullptr) {
    family.write(config, prefix, metadata);
  } else if (!config.sliding_windows.empty()) {
    fail("GGUF files can't say that a model of type \"{}\" has sliding windows", config.architecture);
  }
}

std::string gguf_tensor_name(const ModelConfig& config, const std::string& name) {
  constexpr std::pair<std::string_view, std::string_view> outer[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"},
  };
  const std::pair<std::string_view, std::string_view> inner[] = {
      {"input_layernorm", "attn_norm"},
      {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},
      {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"},
      {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"},
      {"post_attention_layernorm", config.norms_after ? "post_attention_norm" : "ffn_norm"},
      {"pre_feedforward_layernorm", "ffn_norm"},
      {"post_feedforward_layernorm", "post_ffw_norm"},
      {"mlp.gate_proj", "ffn_gate"},
      {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},
  };
  for (const auto& [hugging_face, gguf] : outer) {
    if (name == hugging_face) return std::string(gguf);
  }
  constexpr std::string_view layers = "model.layers.";
  const size_t dot = name.find('.', layers.size());
  const size_t last = name.rfind('.');
  if (name.starts_with(layers) && dot != std::string::npos && last > dot) {
    const std::string middle = name.substr(dot + 1, last - dot - 1);
    for (const auto& [hugging_face, gguf] : inner) {
      if (middle == hugging_face) {
        return fmt::format("blk.{}.{}{}", name.substr(layers.size(), dot - layers.size()), gguf, name.substr(last));
      }
    }
  }
  fail("tensor \"{}\" has no name in GGUF files", name);
}

std::vector<float> rope_frequency_factors(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  std::vector<float> factors;
  for (int64_t at = 0; at < config.head_dim; at += 2) {
    const double share = static_cast<double>(at) / static_cast<double>(config.head_dim);
    const double frequency = std::pow(config.rope_theta, -share);
    const double turns = static_cast<double>(scaling.original_max_position_embeddings) * frequency / (2 * M_PI);
    const double kept =
        std::clamp((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor), 0.0, 1.0);
    factors.push_back(static_cast<float>(1 / (kept + (1 - kept) / scaling.factor)));
  }
  return factors;
}

}  // namespace backburn::model
