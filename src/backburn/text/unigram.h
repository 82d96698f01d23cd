#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backburn/text/byte_trie.h"
#include "backburn/text/tokenizer_parts.h"

namespace backburn::text {

/// The unigram language model (Kudo 2018, arXiv 1804.10959): of all ways to spell a piece by tokens, the one whose
/// scores (log-probabilities) have the largest sum, found by Viterbi's algorithm in time O(n · longest token).
class Unigram {
 public:
  /// Refers to `parts` and `ids` (the model's). `byte_ids`: those of "<0x00>" … "<0xFF>", for byte fallback. Errors: no
  /// unknown token.
  Unigram(const TokenizerParts& parts, const TokenIds& ids, const std::vector<int32_t>& byte_ids,
          const std::string& origin);

  /// Appends the ids of `piece` (UTF-8).
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

 private:
  const ModelParts* model_;
  const TokenIds* ids_;
  ByteTrie trie_;
  std::vector<int32_t> byte_ids_;  // empty: no byte fallback
  double lowest_ = 0;
  double highest_ = 0;
};

}  // namespace backburn::text
