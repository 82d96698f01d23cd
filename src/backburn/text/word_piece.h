#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "backburn/text/tokenizer_parts.h"

namespace backburn::text {

/// BERT's WordPiece: again and again the longest token that the rest of the piece begins with; a piece that cannot be
/// spelled so is the unknown token. Time O(n²) in a piece's length, which is bounded by max_characters.
class WordPiece {
 public:
  /// Refers to both. Errors: no unknown token.
  WordPiece(const TokenizerParts& parts, const TokenIds& ids, const std::string& origin);
  /// Appends the ids of `piece` (UTF-8, not empty).
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

 private:
  const ModelParts* model_;
  const TokenIds* ids_;
};

/// A piece is a token, or unknown (left out when there is no unknown token).
class WordLevel {
 public:
  WordLevel(const TokenizerParts& parts, const TokenIds& ids) : unknown_(parts.model.unknown), ids_(&ids) {}
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

 private:
  int32_t unknown_;
  const TokenIds* ids_;
};

}  // namespace backburn::text
