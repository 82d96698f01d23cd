#pragma once

#include <filesystem>

#include "backburn/model/load.h"

namespace backburn::model {

/// Reads a folder as Transformers writes it: config.json, generation_config.json (its eos_token_id list joins
/// the stop tokens), tokenizer.json, the chat template (chat_template.jinja, or tokenizer_config.json's), and
/// the weights in model.safetensors or shards. Weights stored in `dtype` are mapped, others converted tensor
/// by tensor.
Model load_hugging_face(const std::filesystem::path& folder, at::ScalarType dtype);

/// Writes such a folder, which AutoModelForCausalLM and AutoTokenizer load: weights stored as `dtype` (bf16,
/// f16 or f32). The folder appears whole or not at all; an older one of the same kind is replaced.
void save_hugging_face(const Model& model, const std::filesystem::path& folder, at::ScalarType dtype);

}  // namespace backburn::model
