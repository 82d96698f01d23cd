#include "backburn/model/gguf_families.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <string_view>

#include "backburn/base/error.h"
#include "backburn/model/families.h"
#include "backburn/model/rotary.h"

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

// What llama.cpp computes of all mixtures that are known here: a softmax over all experts, of whose highest the shares
// sum to 1.
void read_mixture(const GgufFile& file, const std::string& prefix, ModelConfig& config) {
  const std::string origin = file.path().string();
  constexpr int64_t softmax = 1;  // llama.cpp's LLAMA_EXPERT_GATING_FUNC_TYPE_SOFTMAX
  if (file.integer(prefix + "expert_shared_count", 0) != 0 ||
      file.integer(prefix + "expert_shared_feed_forward_length", 0) != 0) {
    fail("{}: shared experts are not supported", origin);
  }
  if (file.integer(prefix + "expert_gating_func", softmax) != softmax ||
      file.number(prefix + "expert_weights_scale", 1) != 1) {
    fail("{}: routers are supported with a softmax alone, and without expert_weights_scale", origin);
  }
  MixtureOfExperts& mixture = config.mixture;
  mixture.num_experts = file.integer(prefix + "expert_count");
  mixture.num_experts_per_tok = file.integer(prefix + "expert_used_count");
  mixture.moe_intermediate_size = file.integer(prefix + "expert_feed_forward_length", config.intermediate_size);
  mixture.norm_topk_prob = true;
  check_mixture(mixture, origin);
  mixture.dense_layers.assign(static_cast<size_t>(config.num_hidden_layers), false);
}

void write_mixture(const ModelConfig& config, const std::string& prefix, GgufMetadata& metadata) {
  const MixtureOfExperts& mixture = config.mixture;
  const auto& dense = mixture.dense_layers;
  if (std::find(dense.begin(), dense.end(), true) != dense.end()) {
    fail("GGUF files can't say that some layers of a mixture of experts have a plain MLP");
  }
  if (!mixture.norm_topk_prob) {
    fail("GGUF files can't say that the chosen experts' shares don't sum to 1 (norm_topk_prob: false)");
  }
  metadata.integer(prefix + "expert_count", mixture.num_experts);
  metadata.integer(prefix + "expert_used_count", mixture.num_experts_per_tok);
}

void read_qwen3_moe(const GgufFile& file, const std::string& prefix, ModelConfig& config) {
  config.query_key_norm = QueryKeyNorm::per_head;
  read_mixture(file, prefix, config);
}

void write_qwen3_moe(const ModelConfig& config, const std::string& prefix, GgufMetadata& metadata) {
  write_mixture(config, prefix, metadata);
  metadata.integer(prefix + "expert_feed_forward_length", config.mixture.moe_intermediate_size);
}

int64_t turned_dimensions(const ModelConfig& config) {
  return config.rotary_dim == 0 ? config.head_dim : config.rotary_dim;
}

void read_phi3(const GgufFile& file, const std::string& prefix, ModelConfig& config) {
  config.fused_projections = true;
  const int64_t turned = file.integer(prefix + "rope.dimension_count", config.head_dim);
  config.rotary_dim = turned == config.head_dim ? 0 : turned;
  const int64_t window = file.integer(prefix + "attention.sliding_window", 0);
  if (window < 0) fail("{}: {}attention.sliding_window is {}", file.path().string(), prefix, window);
  if (window > 0) config.sliding_windows.assign(static_cast<size_t>(config.num_hidden_layers), window);
}

void write_phi3(const ModelConfig& config, const std::string& prefix, GgufMetadata& metadata) {
  if (config.head_dim * config.num_attention_heads != config.hidden_size) {
    fail("GGUF files can't say that a Phi-3 model's heads are not hidden_size / num_attention_heads wide");
  }
  const auto& windows = config.sliding_windows;
  const int64_t window = windows.empty() ? 0 : windows.front();
  if (std::count(windows.begin(), windows.end(), window) != std::ssize(windows)) {
    fail("GGUF files can't say that some layers of a Phi-3 model have a sliding window and others another");
  }
  metadata.integer(prefix + "attention.sliding_window", window);
  if (!config.rope_scaling.has_original_length()) {
    metadata.integer(prefix + "rope.scaling.original_context_length", config.max_position_embeddings);
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

constexpr GgufFamily families[] = {
    {.architecture = "llama", .model_type = "llama", .interleaved = true},
    {.architecture = "llama", .model_type = "mistral", .interleaved = true},
    {.architecture = "llama",
     .model_type = "mixtral",
     .interleaved = true,
     .experts = true,
     .read = &read_mixture,
     .write = &write_mixture},
    {.architecture = "qwen2", .model_type = "qwen2", .read = &read_qwen2},
    {.architecture = "qwen3", .model_type = "qwen3", .read = &read_qwen3},
    {.architecture = "qwen3moe",
     .model_type = "qwen3_moe",
     .experts = true,
     .read = &read_qwen3_moe,
     .write = &write_qwen3_moe},
    {.architecture = "phi3", .model_type = "phi3", .windows = true, .read = &read_phi3, .write = &write_phi3},
    {.architecture = "smollm3",
     .model_type = "smollm3",
     .interleaved = true,
     .read = &read_smollm3,
     .write = &write_smollm3},
    {.architecture = "olmo2", .model_type = "olmo2", .read = &read_olmo2},
    {.architecture = "granite",
     .model_type = "granite",
     .interleaved = true,
     .read = &read_granite,
     .write = &write_granite},
    {.architecture = "gemma2", .model_type = "gemma2", .windows = true, .read = &read_gemma2, .write = &write_gemma2},
    {.architecture = "gemma3",
     .model_type = "gemma3_text",
     .windows = true,
     .read = &read_gemma3,
     .write = &write_gemma3}};

// What every file must say.
constexpr std::pair<const char*, int64_t ModelConfig::*> sizes[] = {
    {"block_count", &ModelConfig::num_hidden_layers},
    {"context_length", &ModelConfig::max_position_embeddings},
    {"embedding_length", &ModelConfig::hidden_size},
    {"feed_forward_length", &ModelConfig::intermediate_size},
    {"attention.head_count", &ModelConfig::num_attention_heads}};

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

// A divisor for each frequency, [turned dimensions / 2].
std::vector<double> longrope_factors(const GgufFile& file, const std::string& name) {
  const GgufTensor* stored = file.find_tensor(name);
  if (stored == nullptr) fail("{}: tensor \"{}\" is missing", file.path().string(), name);
  std::vector<float> factors(static_cast<size_t>(stored->values()));
  dequantize(stored->type, file.bytes(*stored), factors);
  return {factors.begin(), factors.end()};
}

constexpr const char* short_factors = "rope_factors_short.weight";
constexpr const char* long_factors = "rope_factors_long.weight";

// Sets config.rope_scaling; what the method itself says must be known for what files say in relation to it.
void read_yarn_or_longrope(const GgufFile& file, const std::string& at, bool yarn, ModelConfig& config) {
  RopeScaling& scaling = config.rope_scaling;
  scaling.type = yarn ? "yarn" : "longrope";
  scaling.original_max_position_embeddings =
      file.integer(at + "original_context_length", config.max_position_embeddings);
  if (scaling.original_max_position_embeddings < 2) {
    fail("{}: {}original_context_length is {}, expected at least 2", file.path().string(), at,
         scaling.original_max_position_embeddings);
  }
  if (yarn) {
    scaling.factor = file.number(at + "factor");
    scaling.beta_fast = file.number(at + "yarn_beta_fast", 32);
    scaling.beta_slow = file.number(at + "yarn_beta_slow", 1);
    scaling.attention_factor = file.number(at + "yarn_attn_factor", 0);
    if (!(scaling.factor > 0) || !(scaling.beta_slow > 0) || !(scaling.beta_fast > scaling.beta_slow) ||
        !(scaling.attention_factor >= 0)) {
      fail("{}: YaRN: expected 0 < factor, 0 < yarn_beta_slow < yarn_beta_fast and 0 <= yarn_attn_factor",
           file.path().string());
    }
    if (file.number(at + "yarn_ext_factor", 1) != 1 || file.number(at + "yarn_log_multiplier", 0) != 0) {
      fail("{}: YaRN with yarn_ext_factor or yarn_log_multiplier is not supported", file.path().string());
    }
  } else {
    scaling.factor = 0;
    scaling.short_factor = longrope_factors(file, short_factors);
    scaling.long_factor = longrope_factors(file, long_factors);
  }
  // llama.cpp multiplies YaRN's own factor by this one; for LongRoPE, which it does not compute, it is the whole.
  const double own = rope_attention_factor(config);
  const double wanted = yarn ? own * file.number(at + "attn_factor", 1) : file.number(at + "attn_factor", 1);
  if (!(wanted > 0)) fail("{}: {}attn_factor makes {}, expected more than 0", file.path().string(), at, wanted);
  if (!near(wanted, own)) scaling.attention_factor = wanted;
}

void read_scaling(const GgufFile& file, const std::string& prefix, ModelConfig& config) {
  const std::string at = prefix + "rope.scaling.";
  const std::string type = file.find(at + "type") == nullptr ? "none" : file.string(at + "type");
  if (type != "none" && type != "linear" && type != "yarn" && type != "longrope") {
    fail("{}: RoPE scaling \"{}\" is unknown (supported: none, linear, yarn, longrope)", file.path().string(), type);
  }
  if (const GgufTensor* factors = file.find_tensor("rope_freqs.weight")) {
    if (type != "none")
      fail("{}: RoPE scaling \"{}\" beside rope_freqs.weight is not supported", file.path().string(), type);
    config.rope_scaling = scaling_of_factors(file, *factors, config);
  } else if (type == "yarn") {
    read_yarn_or_longrope(file, at, true, config);
  } else if (type == "longrope" || file.find_tensor(short_factors) != nullptr) {  // Phi-3's files don't say the type
    read_yarn_or_longrope(file, at, false, config);
  } else if (type == "linear") {
    config.rope_scaling = {.type = "linear", .factor = file.number(at + "factor")};
    if (!(config.rope_scaling.factor > 0)) {
      fail("{}: {}factor is {}, expected more than 0", file.path().string(), at, config.rope_scaling.factor);
    }
  }
}

void write_scaling(const ModelConfig& config, const std::string& prefix, GgufMetadata& metadata) {
  const RopeScaling& scaling = config.rope_scaling;
  const std::string at = prefix + "rope.scaling.";
  if (scaling.type == "default" || scaling.type == "llama3") return;  // llama3: see rope_factor_tensors
  if (scaling.type == "longrope" && config.architecture == "phi3") {
    metadata.integer(at + "original_context_length", scaling.original_max_position_embeddings);
    metadata.number(at + "attn_factor", rope_attention_factor(config));
    return;
  }
  if (scaling.type != "linear" && scaling.type != "yarn") {
    fail("GGUF files can't say that a model of type \"{}\" has RoPE scaling \"{}\"", config.architecture, scaling.type);
  }
  metadata.text(at + "type", scaling.type);
  metadata.number(at + "factor", scaling.factor);
  if (scaling.type == "linear") return;
  if (scaling.beta_fast != 32 || scaling.beta_slow != 1 || !scaling.truncate) {
    fail("llama.cpp computes YaRN with beta_fast 32, beta_slow 1 and truncate alone, this model has others");
  }
  metadata.integer(at + "original_context_length", scaling.original_max_position_embeddings);
  ModelConfig plain = config;
  plain.rope_scaling.attention_factor = 0;
  const double ratio = rope_attention_factor(config) / rope_attention_factor(plain);
  if (!near(ratio, 1)) metadata.number(at + "attn_factor", ratio);
}

void refuse_uncomputed(const GgufFile& file, const std::string& prefix, const ModelConfig& config) {
  const std::string origin = file.path().string();
  const int64_t turned = file.integer(prefix + "rope.dimension_count", turned_dimensions(config));
  if (turned != turned_dimensions(config)) {
    fail("{}: {}rope.dimension_count is {}, expected the whole head of {}", origin, prefix, turned, config.head_dim);
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

const GgufFamily& gguf_family_of_architecture(const std::string& architecture, bool experts,
                                              const std::string& origin) {
  std::string known;
  for (const GgufFamily& family : families) {
    if (architecture == family.architecture && family.experts == experts) return family;
    if (known.find(family.architecture) == std::string::npos) {
      known += (known.empty() ? "" : ", ") + std::string(family.architecture);
    }
  }
  fail("{}: architecture \"{}\"{} is unknown (supported: {}; with experts llama and qwen3moe)", origin, architecture,
       experts ? " with experts" : "", known);
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
  const std::string prefix = file.string("general.architecture") + ".";
  const GgufFamily& family = gguf_family_of_architecture(file.string("general.architecture"),
                                                         file.integer(prefix + "expert_count", 0) > 0, origin);
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr) fail("{}: tensor \"token_embd.weight\" is missing", origin);
  ModelConfig config;
  config.architecture = family.model_type;
  config.vocab_size = embedding->shape.front();
  for (const auto& [key, size] : sizes) config.*size = file.integer(prefix + key);
  config.num_key_value_heads = file.integer(prefix + "attention.head_count_kv", config.num_attention_heads);
  if (config.num_attention_heads < 1) {
    fail("{}: {}attention.head_count is {}, expected at least 1", origin, prefix, config.num_attention_heads);
  }
  config.head_dim = file.integer(prefix + "attention.key_length", config.hidden_size / config.num_attention_heads);
  config.rms_norm_eps = file.number(prefix + "attention.layer_norm_rms_epsilon");
  config.rope_theta = file.number(prefix + "rope.freq_base", config.rope_theta);
  config.attention_bias = file.find_tensor("blk.0.attn_q.bias") != nullptr;
  config.attention_output_bias = file.find_tensor("blk.0.attn_output.bias") != nullptr;
  config.tie_word_embeddings = file.find_tensor("output.weight") == nullptr;
  config.bos_token_id = special_token(file, "tokenizer.ggml.bos_token_id", config.vocab_size);
  config.pad_token_id = special_token(file, "tokenizer.ggml.padding_token_id", config.vocab_size);
  config.stop_token_ids = stop_tokens(file, config.vocab_size);
  check_config(config, origin);
  if (family.read != nullptr) family.read(file, prefix, config);
  read_scaling(file, prefix, config);
  check_rope(config, origin);
  refuse_uncomputed(file, prefix, config);
  return config;
}

void config_to_gguf(const ModelConfig& config, GgufMetadata& metadata) {
  const GgufFamily& family = gguf_family_of(config.architecture);
  const std::string prefix = std::string(family.architecture) + ".";
  for (const auto& [key, size] : sizes) metadata.integer(prefix + key, config.*size);
  metadata.integer(prefix + "attention.head_count_kv", config.num_key_value_heads);
  metadata.integer(prefix + "attention.key_length", config.head_dim);
  metadata.integer(prefix + "attention.value_length", config.head_dim);
  metadata.number(prefix + "attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  metadata.integer(prefix + "rope.dimension_count", turned_dimensions(config));
  metadata.number(prefix + "rope.freq_base", config.rope_theta);
  metadata.integer(prefix + "vocab_size", config.vocab_size);
  write_scaling(config, prefix, metadata);
  if (!family.windows && !config.sliding_windows.empty()) {
    fail("GGUF files can't say that a model of type \"{}\" has sliding windows", config.architecture);
  }
  if (family.write != nullptr) family.write(config, prefix, metadata);
}

GgufPlace gguf_place(const ModelConfig& config, const std::string& name) {
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
      {"self_attn.qkv_proj", "attn_qkv"},
      {"mlp.gate_up_proj", "ffn_up"},
      {"mlp.gate", "ffn_gate_inp"},
      {"block_sparse_moe.gate", "ffn_gate_inp"},
      {"gate_proj", "ffn_gate_exps"},  // of an expert, as those that follow
      {"up_proj", "ffn_up_exps"},
      {"down_proj", "ffn_down_exps"},
      {"w1", "ffn_gate_exps"},
      {"w3", "ffn_up_exps"},
      {"w2", "ffn_down_exps"},
      {"mlp.gate_proj", "ffn_gate"},
      {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},
  };
  for (const auto& [hugging_face, gguf] : outer) {
    if (name == hugging_face) return {std::string(gguf)};
  }
  constexpr std::string_view layers = "model.layers.";
  const size_t dot = name.find('.', layers.size());
  const size_t last = name.rfind('.');
  if (name.starts_with(layers) && dot != std::string::npos && last > dot) {
    std::string module = name.substr(dot + 1, last - dot - 1);
    int64_t expert = -1;
    constexpr std::string_view experts = ".experts.";
    if (const size_t at = module.find(experts); at != std::string::npos) {  // "mlp.experts.3.gate_proj"
      const char* end = module.data() + module.size();
      const char* after = std::from_chars(module.data() + at + experts.size(), end, expert).ptr;
      module = after == end ? "" : std::string(after + 1, end);
    }
    for (const auto& [hugging_face, gguf] : inner) {
      if (module == hugging_face) {
        return {fmt::format("blk.{}.{}{}", name.substr(layers.size(), dot - layers.size()), gguf, name.substr(last)),
                expert};
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

std::vector<std::pair<std::string, std::vector<float>>> rope_factor_tensors(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.type == "llama3") return {{"rope_freqs.weight", rope_frequency_factors(config)}};
  if (scaling.type != "longrope") return {};
  return {{long_factors, {scaling.long_factor.begin(), scaling.long_factor.end()}},
          {short_factors, {scaling.short_factor.begin(), scaling.short_factor.end()}}};
}

}  // namespace backburn::model
