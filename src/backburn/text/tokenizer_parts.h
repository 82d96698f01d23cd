#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/text/added_tokens.h"
#include "backburn/text/sentencepiece_normalizer.h"

namespace backburn::text {

/// What turns a piece of text into tokens.
struct ModelParts {
  enum class Kind { bpe, unigram, word_piece, word_level };
  Kind kind = Kind::bpe;
  int32_t unknown = -1;  ///< the id of what no token spells; −1: none
  /// BPE: what merges, best first, and (empty: their places) the rank of each; equal ranks merge from left to right.
  std::vector<std::pair<std::string, std::string>> merges{};
  std::vector<int32_t> merge_ranks{};
  bool ignore_merges = false;     ///< BPE: a piece that is a token is that token
  bool fuse_unknown = false;      ///< BPE: unknown characters in a row are one unknown token
  bool byte_fallback = false;     ///< BPE, Unigram: what no token spells is written in bytes, "<0x0A>"
  std::string subword_prefix{};   ///< BPE, WordPiece: before every token that doesn't begin a piece ("##")
  std::string word_suffix{};      ///< BPE: after a token that ends a piece ("</w>")
  std::vector<double> scores{};   ///< Unigram: by id
  std::vector<char> always{};     ///< Unigram: by id or empty; a token that is chosen wherever it occurs
  bool single_precision = false;  ///< Unigram: sums of scores are float32, as in the sentencepiece library
  size_t max_characters = 100;    ///< WordPiece: a longer piece is unknown
};

/// What a tokenizer is made of, whatever file it came from. Tokenizer computes with it and writes it as tokenizer.json.
struct TokenizerParts {
  Json normalizer{};  ///< these four as a tokenizer.json has them; null: none
  Json pre_tokenizer{};
  Json post_processor{};
  Json decoder{};
  /// When given it normalizes, and `normalizer` and `pre_tokenizer` only say nearly the same to other programs.
  std::optional<SentencePieceNormalizer> sentencepiece{};
  ModelParts model{};
  std::vector<std::string> tokens{};  ///< by id; "" where no token is
  std::vector<char> in_model{};       ///< by id: a token of the model, not only an added one
  std::vector<AddedToken> added{};

  /// Puts a token in its place. Errors, with `where`: not UTF-8, or another token has that id.
  void put(const std::string& token, int32_t id, bool of_model, const std::string& where);
};

/// The ids of tokens by how the vocabulary writes them. Refers to the parts, which must stay where they are.
class TokenIds {
 public:
  TokenIds() = default;
  /// Of all tokens, or of the model's alone. Of equal ones the first counts.
  TokenIds(const TokenizerParts& parts, bool of_model);
  /// −1: no such token.
  int32_t find(std::string_view token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? -1 : found->second;
  }
  /// The ids of the byte tokens "<0x00>" … "<0xFF>", −1 for those that are missing.
  std::vector<int32_t> bytes() const;

 private:
  std::unordered_map<std::string_view, int32_t> ids_;
};

}  // namespace backburn::text
