#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backburn/base/json.h"

namespace backburn::model {

/// How RoPE's frequencies are stretched for contexts longer than those of pre-training.
struct RopeScaling {
  std::string type = "default";  ///< not at all; linear, llama3, yarn, dynamic or longrope: see rotary.h
  double factor = 1;             ///< longrope: 0 is max_position_embeddings / original_max_position_embeddings
  int64_t original_max_position_embeddings = 0;      ///< llama3, yarn, longrope
  double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3: which wavelengths count as long and as short
  double beta_fast = 32, beta_slow = 1;              ///< yarn: likewise, in turns within the original context
  bool truncate = true;                              ///< yarn: those bounds are rounded to whole dimensions
  double attention_factor = 0;                       ///< yarn, longrope: of cosines and sines; 0: the method's own
  std::vector<double> short_factor = {}, long_factor = {};  ///< longrope: a divisor for each frequency

  bool has_original_length() const { return type == "llama3" || type == "yarn" || type == "longrope"; }
};

/// A mixture of experts in place of the MLP: each token goes to the few experts that its router scores best.
struct MixtureOfExperts {
  int64_t num_experts = 0;              ///< 0: there is no mixture
  int64_t num_experts_per_tok = 0;      ///< of the highest probabilities
  int64_t moe_intermediate_size = 0;    ///< of one expert
  bool norm_topk_prob = false;          ///< their shares sum to 1, instead of being the router's probabilities
  std::vector<bool> dense_layers = {};  ///< by layer: has a plain MLP all the same
};

/// RMS norm over queries and keys before RoPE: of each head (Qwen3), or of all heads together (OLMo 2).
enum class QueryKeyNorm { none, per_head, whole };

/// What a decoder-only transformer is made of. An architecture is a function that fills this struct; differences
/// between families are fields, not subclasses.
struct ModelConfig {
  std::string architecture;  ///< Hugging Face `model_type`: a name of known_architectures().
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling = {};
  int64_t rotary_dim = 0;                 ///< dimensions of a head that RoPE turns, the first ones (Phi-4-mini); 0: all
  std::vector<bool> no_rope_layers = {};  ///< by layer: it has no positions (SmolLM3); empty: all have
  std::vector<int64_t> sliding_windows =
      {};                       ///< by layer: tokens that a token sees, itself included; 0: all; empty: all
  double local_rope_theta = 0;  ///< of layers with a sliding window, never stretched (Gemma 3); 0: as other layers
  QueryKeyNorm query_key_norm = QueryKeyNorm::none;
  bool norms_before = true;            ///< RMS norms before attention and before the MLP
  bool norms_after = false;            ///< … and after, before the sum with the residual stream (Gemma, OLMo 2)
  bool norm_adds_one = false;          ///< norms scale by 1 + weight (Gemma)
  std::string hidden_act = "silu";     ///< of the MLP's gate: silu or gelu_pytorch_tanh
  double embedding_scale = 1;          ///< of token embeddings
  double residual_scale = 1;           ///< of what attention and MLP add (Granite)
  double attention_scale = 0;          ///< of query · key; 0: 1 / √head_dim
  double logit_scale = 1;              ///< of the final hidden state (Granite)
  double attention_softcap = 0;        ///< s → cap · tanh(s / cap) for scores (Gemma 2); 0: none
  double logit_softcap = 0;            ///< … for logits
  bool fused_projections = false;      ///< q, k and v are one matrix, gate and up another (Phi-3)
  MixtureOfExperts mixture = {};       ///< (Qwen3-MoE)
  bool attention_bias = false;         ///< biases on the query, key and value projections
  bool attention_output_bias = false;  ///< bias on the attention's output projection
  bool tie_word_embeddings = false;
  int64_t bos_token_id = -1;                 ///< -1: none
  int64_t pad_token_id = -1;                 ///< -1: none
  std::vector<int64_t> stop_token_ids = {};  ///< any of these ends an answer (`eos_token_id`)

  bool has_rope(size_t layer) const { return no_rope_layers.empty() || !no_rope_layers[layer]; }
  int64_t sliding_window(size_t layer) const { return sliding_windows.empty() ? 0 : sliding_windows[layer]; }
  bool has_experts(size_t layer) const { return mixture.num_experts > 0 && !mixture.dense_layers[layer]; }
  /// Whether the layers are Llama's and Qwen2's, as the packed kernels compute them.
  bool is_plain() const;
};

/// The `model_type`s that this program computes, for people: "llama, mistral, …".
std::string known_architectures();

/// Reads a Hugging Face config.json (Transformers 4 and 5 layouts). `origin` is named in errors: an unknown
/// model_type, a missing key, a size that does not divide, a feature this program does not compute.
ModelConfig config_from_hugging_face(const Json& json, const std::string& origin);

/// The config.json that Transformers needs to load weights of this shape stored as `dtype` ("bfloat16", "float32").
Json config_to_hugging_face(const ModelConfig& config, const std::string& dtype);

/// Throws unless every size is positive, divides where it must, and stays below what a real model has.
void check_config(const ModelConfig& config, const std::string& origin);

/// Weights in the transformer, embeddings included (tied embeddings count once).
int64_t parameter_count(const ModelConfig& config);

}  // namespace backburn::model
