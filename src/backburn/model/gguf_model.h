#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "backburn/model/gguf.h"
#include "backburn/model/stored.h"

namespace backburn::model {

/// Errors: what the file's metadata claim and its tensors are not; found before anything is read.
void check_tensors(const ModelConfig& config, const GgufFile& file);

/// A GGUF file's model. Weights that are asked for as they are stored are mapped, others are dequantised row by row.
StoredModel open_gguf(const std::filesystem::path& path);

/// The same with all its weights.
Model load_gguf(const std::filesystem::path& path, at::ScalarType dtype);

/// Writes a GGUF file that llama.cpp loads: metadata, tokenizer, chat template and weights. Matrices are stored as
/// `type` (F32, F16, BF16 or Q8_0; those whose rows are no multiple of 32 as F16 instead of Q8_0), vectors as F32, as
/// llama.cpp's converter does. The file appears whole or not at all. Errors: a model or tokenizer that GGUF has no form
/// for, a value beyond F16's range. `read` gives the weights, one after the other.
void save_gguf(const Model& model, const std::filesystem::path& path, GgmlType type, const WeightReader& read);
/// With the model's own weights.
void save_gguf(const Model& model, const std::filesystem::path& path, GgmlType type);

/// What the tokenizer is built from: `tokenizer.ggml.*`. Byte-level BPE ("gpt2") and SentencePiece ("llama", "t5").
text::Vocabulary vocabulary(const GgufFile& file);

/// `tokenizer.chat_template`, Jinja source.
std::optional<std::string> chat_template(const GgufFile& file);

}  // namespace backburn::model
