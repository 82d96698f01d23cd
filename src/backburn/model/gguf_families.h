#pragma once

#include <string>
#include <utility>
#include <vector>

#include "backburn/model/config.h"
#include "backburn/model/gguf.h"

namespace backburn::model {

/// A family of models in GGUF files: how llama.cpp names its architecture, and what it stores otherwise than Hugging
/// Face does. Adding one takes a line in the table and, where it has keys of its own, a function to read and one to
/// write them.
struct GgufFamily {
  const char* architecture;  ///< `general.architecture`
  const char* model_type;    ///< Hugging Face's; several may share an architecture, the first is what a file is read as
  /// Rows of q and k alternate between the two halves of a head, since llama.cpp's RoPE rotates neighbours there.
  bool interleaved = false;
  bool experts = false;  ///< a mixture of experts in all layers, stored as one tensor a layer and projection
  bool windows = false;  ///< may have sliding windows
  void (*read)(const GgufFile& file, const std::string& prefix, ModelConfig& config) = nullptr;  ///< after Llama's keys
  void (*write)(const ModelConfig& config, const std::string& prefix, GgufMetadata& metadata) = nullptr;
};

/// `experts`: whether the file has any. Errors: an architecture that is not known (known ones are listed), or not with,
/// or not without, experts.
const GgufFamily& gguf_family_of_architecture(const std::string& architecture, bool experts, const std::string& origin);

/// Errors: a model_type that GGUF files have no form for.
const GgufFamily& gguf_family_of(const std::string& model_type);

/// The model's sizes and special tokens. An unknown architecture, or a feature that is not computed (shared experts,
/// …), is an Error. Stop tokens: the file's end-of-sequence token, then every usual end-of-turn token that the
/// vocabulary marks as a control token.
ModelConfig config_from_gguf(const GgufFile& file);

/// The keys that config_from_gguf and llama.cpp read, the tokenizer's left out. Errors: what GGUF can't say of such a
/// model (windows in other layers than llama.cpp gives the architecture, …).
void config_to_gguf(const ModelConfig& config, GgufMetadata& metadata);

/// Where a tensor lies in GGUF files.
struct GgufPlace {
  std::string name;     ///< "blk.0.ffn_gate_exps.weight"
  int64_t expert = -1;  ///< which of its slices [experts, out, in]; -1: it is the whole tensor
};

/// The place of a tensor in Hugging Face's terms: "model.layers.0.self_attn.q_proj.weight" is "blk.0.attn_q.weight".
GgufPlace gguf_place(const ModelConfig& config, const std::string& hugging_face_name);

/// Tensors that carry RoPE's scaling: "rope_freqs.weight" for llama3, "rope_factors_long.weight" and "…_short.weight"
/// for longrope.
std::vector<std::pair<std::string, std::vector<float>>> rope_factor_tensors(const ModelConfig& config);

/// By what llama.cpp divides each of RoPE's frequencies for RoPE scaling "llama3": [head_dim / 2], the values of
/// "rope_freqs.weight".
std::vector<float> rope_frequency_factors(const ModelConfig& config);

}  // namespace backburn::model
