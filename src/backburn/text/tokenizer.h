#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backburn/base/json.h"

namespace backburn::text {

/// What a GGUF file says of its tokenizer.
struct Vocabulary {
  /// tokenizer.ggml.pre, the name of the pre-tokenizer: "smollm", "qwen2", "gpt-2", "llama-bpe", …
  std::string pre;
  /// tokenizer.ggml.tokens; a token's id is its place.
  std::vector<std::string> tokens{};
  /// tokenizer.ggml.token_type, one per token or empty (all normal):
  /// 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
  std::vector<int32_t> token_types{};
  /// tokenizer.ggml.merges, best first, "left right".
  std::vector<std::string> merges{};
};

/// Byte-level BPE, as GPT-2 and its heirs use it (SmolLM2, Qwen, Llama 3, …). Ids are those of Hugging Face
/// `tokenizers` (tests/model/tokenizer_parity_test.cc). A value: copies share the tables; safe to use from
/// many threads.
class Tokenizer {
 public:
  /// From a Hugging Face tokenizer.json: model BPE, byte-level. `origin` (a file name) is named in errors.
  /// Errors: another model or pre-tokenizer type, ids out of range or given twice, merges that name missing
  /// tokens.
  static Tokenizer from_json(const Json& tokenizer_json, const std::string& origin);

  /// from_json of a file. Faster than from_json(read_json_file(path)): an ordered Json of a large vocabulary
  /// takes quadratic time to parse (151,936 tokens: most of a minute).
  static Tokenizer from_file(const std::filesystem::path& path);

  /// from_file of text already read.
  static Tokenizer from_json_text(std::string_view text, const std::string& origin);

  /// From GGUF metadata. Errors: an unknown `pre`, lists of unequal length, merges that name missing tokens.
  static Tokenizer from_vocabulary(const Vocabulary& vocabulary, const std::string& origin);

  /// A tokenizer.json that Hugging Face `tokenizers` loads and that gives equal ids.
  Json to_json() const;

  /// The ids of `text`, without adding bos or eos. Bytes that are not UTF-8 count as U+FFFD, as Python's
  /// errors="replace" has it. With `parse_special` false, special tokens inside `text` are ordinary text (for
  /// text that a stranger wrote).
  std::vector<int32_t> encode(std::string_view text, bool parse_special = true) const;

  /// The text of `ids`; what is not UTF-8 in the end becomes U+FFFD. Errors: an id outside [0, size()).
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  /// The bytes that `id` stands for, perhaps part of a character. Errors: an id outside [0, size()).
  std::string_view bytes_of(int32_t id) const;

  /// The id of a token as the vocabulary writes it ("Ġthe", "<|im_end|>").
  std::optional<int32_t> id_of(std::string_view token) const;

  /// The token as the vocabulary writes it; "" for an id that has none. Errors: an id outside [0, size()).
  std::string_view token(int32_t id) const;

  /// Whether decode() leaves `id` out unless asked (control tokens). False for any id that does not exist.
  bool is_special(int32_t id) const;

  /// One more than the largest id.
  int64_t size() const;

 private:
  struct Tables;
  using Entries = std::vector<std::pair<std::string, Json>>;
  // `json` without its model.vocab, and that.
  static Tokenizer load(const Json& json, const Entries& vocabulary, const std::string& origin);
  explicit Tokenizer(std::shared_ptr<const Tables> tables) : tables_(std::move(tables)) {}
  std::shared_ptr<const Tables> tables_;
};

/// Streaming decode: gives only whole UTF-8 characters; the concatenation of all that push() and finish()
/// return is what decode() of all ids returns. Special tokens are left out. The Tokenizer is kept by value.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  /// The characters that `id` completes, perhaps none.
  std::string push(int32_t id);

  /// What is left: U+FFFD for an unfinished character. The decoder is then as new.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  std::string pending_;
};

}  // namespace backburn::text
