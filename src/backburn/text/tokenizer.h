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
#include "backburn/text/decoder.h"
#include "backburn/text/gguf_vocabulary.h"

namespace backburn::text {

/// From text to ids and back, for every kind of tokenizer that a tokenizer.json, a tokenizer.model or a GGUF file
/// describes: BPE (of bytes as GPT-2 and its heirs, or of characters as SentencePiece), Unigram, WordPiece. Ids are
/// those of Hugging Face `tokenizers` or of the sentencepiece library (tests/text/tokenizer_kinds_test.cc). A value:
/// copies share the tables; safe to use from many threads.
class Tokenizer {
 public:
  /// From a Hugging Face tokenizer.json. `origin` (a file name) is named in errors. Errors: a part of unknown type, ids
  /// out of range or given twice, merges that name missing tokens.
  static Tokenizer from_json(const Json& tokenizer_json, const std::string& origin);

  /// from_json of text.
  static Tokenizer from_json_text(std::string_view text, const std::string& origin);

  /// From a tokenizer.json, or, when the name ends so, a SentencePiece tokenizer.model.
  static Tokenizer from_file(const std::filesystem::path& path);

  /// From the bytes of a SentencePiece tokenizer.model (sentencepiece.h).
  static Tokenizer from_sentencepiece(std::string_view bytes, const std::string& origin);

  /// From GGUF metadata (gguf_vocabulary.h).
  static Tokenizer from_vocabulary(const Vocabulary& vocabulary, const std::string& origin);

  /// A tokenizer.json that Hugging Face `tokenizers` loads and that gives equal ids (nearly, for SentencePiece: its
  /// normalizer has no exact counterpart there).
  Json to_json() const;

  /// The ids of `text`, without adding bos or eos. Bytes that are not UTF-8 count as U+FFFD, as Python's
  /// errors="replace" has it. With `parse_special` false, special tokens inside `text` are ordinary text (for
  /// text that a stranger wrote).
  std::vector<int32_t> encode(std::string_view text, bool parse_special = true) const;

  /// The text of `ids`; what is not UTF-8 in the end becomes U+FFFD. Errors: an id outside [0, size()).
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  /// `ids` with what the file's post-processor puts around a single text ("<s>" before it, …). Chat templates write
  /// these tokens themselves.
  std::vector<int32_t> with_special_tokens(std::vector<int32_t> ids) const;

  /// The id of a token as the vocabulary writes it ("Ġthe", "<|im_end|>").
  std::optional<int32_t> id_of(std::string_view token) const;

  /// The token as the vocabulary writes it; "" for an id that has none. Errors: an id outside [0, size()).
  std::string_view token(int32_t id) const;

  /// Whether decode() leaves `id` out unless asked (control tokens). False for any id that does not exist.
  bool is_special(int32_t id) const;

  /// One more than the largest id.
  int64_t size() const;

 private:
  friend class StreamDecoder;
  struct Tables;
  static Tokenizer of(TokenizerParts parts, const std::string& origin);
  explicit Tokenizer(std::shared_ptr<const Tables> tables) : tables_(std::move(tables)) {}
  std::shared_ptr<const Tables> tables_;
};

/// Streaming decode: gives only whole UTF-8 characters, as soon as nothing that follows can change them; the
/// concatenation of all that push() and finish() return is what decode() of all ids returns. The Tokenizer is kept by
/// value.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens = true);

  /// The characters that `id` completes, perhaps none. Errors: an id outside [0, size()).
  std::string push(int32_t id);

  /// What is left: U+FFFD for an unfinished character. The decoder is then as new.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  Decoder::State state_;
};

}  // namespace backburn::text
