#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "backburn/model/stored.h"

namespace backburn::model {

class Safetensors;

/// Errors: what config.json (`origin`) claims and the stored tensors are not; found before anything is read.
void check_tensors(const ModelConfig& config, const Safetensors& stored, const std::string& origin);

/// Reads a folder as Transformers writes it: config.json, generation_config.json (its eos_token_id list joins
/// the stop tokens), tokenizer.json, the chat template (chat_template.jinja, or tokenizer_config.json's), and
/// the weights in model.safetensors or shards. Weights that are asked for as they are stored are mapped, others
/// converted tensor by tensor.
StoredModel open_hugging_face(const std::filesystem::path& folder);

/// The same with all its weights.
Model load_hugging_face(const std::filesystem::path& folder, at::ScalarType dtype);

/// Its tokenizer alone: tokenizer.json, or tokenizer.model where there is none.
text::Tokenizer tokenizer_of_folder(const std::filesystem::path& folder);

struct FoundTemplate {
  std::string source;  ///< Jinja
  std::string origin;  ///< the file that it is from
};

/// Its chat template alone. Transformers lets chat_template.jinja win; of a list of named ones it is "default".
std::optional<FoundTemplate> chat_template_of_folder(const std::filesystem::path& folder);

/// Writes such a folder, which AutoModelForCausalLM and AutoTokenizer load: weights stored as `dtype` (bf16,
/// f16 or f32), given by `read` one after the other. The folder appears whole or not at all; an older one of the same
/// kind is replaced.
void save_hugging_face(const Model& model, const std::filesystem::path& folder, at::ScalarType dtype,
                       const WeightReader& read);
/// With the model's own weights.
void save_hugging_face(const Model& model, const std::filesystem::path& folder, at::ScalarType dtype);

}  // namespace backburn::model
