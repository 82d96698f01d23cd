#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "backburn/base/files.h"
#include "backburn/model/config.h"
#include "backburn/model/ggml.h"

namespace backburn::text {
struct Vocabulary;
}

namespace backburn::model {

/// A metadata value. Integers of every width are int64 (an uint64 above 2^63 − 1 is an Error), floats are
/// double.
using GgufValue = std::variant<bool, int64_t, double, std::string, std::vector<bool>, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

/// One tensor's entry in the file's table.
struct GgufTensor {
  std::string name;            ///< "blk.0.attn_q.weight"
  GgmlType type;               ///< how its values are stored
  std::vector<int64_t> shape;  ///< outermost first, as PyTorch counts (the file lists the innermost first)
  size_t offset;               ///< first byte, from the file's beginning
  size_t size;                 ///< bytes
  int64_t values() const;      ///< product of the shape
};

/// A GGUF file, version 2 or 3, little-endian (specification: ggml-org/ggml, docs/gguf.md), mapped and fully
/// checked when opened: magic, version, counts, string and array lengths, types, duplicate names, alignment,
/// and that every tensor lies inside the file. An Error names the file and the byte offset.
class GgufFile {
 public:
  static GgufFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  /// The value under `key`, or nullptr.
  const GgufValue* find(const std::string& key) const;
  /// The tensor of that name, or nullptr.
  const GgufTensor* find_tensor(const std::string& name) const;

  /// Typed look-ups: an Error when the value is missing or of another type.
  int64_t integer(const std::string& key) const;
  double number(const std::string& key) const;
  const std::string& string(const std::string& key) const;
  const std::vector<std::string>& strings(const std::string& key) const;
  const std::vector<int64_t>& integers(const std::string& key) const;
  const std::vector<double>& numbers(const std::string& key) const;
  /// `fallback` when the value is missing.
  bool flag(const std::string& key, bool fallback) const;

  /// A tensor's stored bytes, in the mapping.
  std::span<const std::byte> bytes(const GgufTensor& tensor) const;
  /// Keeps the mapping alive for tensors that view it.
  std::shared_ptr<const MappedFile> mapping() const { return file_; }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t> tensor_index_;
};

/// The model's sizes and special tokens. Architectures llama and qwen2; any other, or a feature that is not
/// computed (RoPE scaling, experts), is an Error. Stop tokens: the file's end-of-sequence token, then every
/// usual end-of-turn token that the vocabulary marks as a control token.
ModelConfig config_from_gguf(const GgufFile& file);

/// What the tokenizer is built from: `tokenizer.ggml.*`. Byte-level BPE ("gpt2") and SentencePiece ("llama", "t5").
text::Vocabulary vocabulary(const GgufFile& file);

/// `tokenizer.chat_template`, Jinja source.
std::optional<std::string> chat_template(const GgufFile& file);

/// The name in GGUF files of a tensor in Hugging Face's terms: "model.layers.0.self_attn.q_proj.weight" is
/// "blk.0.attn_q.weight".
std::string gguf_tensor_name(const std::string& hugging_face_name);

}  // namespace backburn::model
