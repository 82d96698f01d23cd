#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backburn/text/tokenizer_parts.h"

namespace backburn::text {

/// What a GGUF file says of its tokenizer.
struct Vocabulary {
  /// tokenizer.ggml.pre, the name of the pre-tokenizer: "smollm", "qwen2", "gpt-2", "llama-bpe", … For "gpt2".
  std::string pre;
  /// tokenizer.ggml.tokens; a token's id is its place.
  std::vector<std::string> tokens{};
  /// tokenizer.ggml.token_type, one per token or empty (all normal):
  /// 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
  std::vector<int32_t> token_types{};
  /// tokenizer.ggml.merges, best first, "left right". For "gpt2".
  std::vector<std::string> merges{};
  /// tokenizer.ggml.model: "gpt2" (byte-level BPE), "llama" (SentencePiece's BPE) or "t5" (SentencePiece's Unigram).
  std::string model = "gpt2";
  /// tokenizer.ggml.scores, one per token. For "llama" and "t5".
  std::vector<double> scores{};
  /// tokenizer.ggml.add_space_prefix and remove_extra_whitespaces. For "llama" and "t5".
  bool add_space_prefix = true;
  bool remove_extra_whitespaces = false;
  /// tokenizer.ggml.precompiled_charsmap. For "t5".
  std::string charsmap{};
};

/// What converters write at a place that is in the model's size and in no tokenizer, of type 5.
std::string unused_token(size_t id);

/// Errors: an unknown `model` or `pre`, lists of unequal length, ids or types out of range, tokens given twice.
TokenizerParts parts_of(const Vocabulary& vocabulary, const std::string& origin);

}  // namespace backburn::text
