#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "backburn/text/byte_trie.h"
#include "backburn/text/charsmap.h"
#include "backburn/text/pre_tokenizer.h"

namespace backburn::text {

/// What the sentencepiece library does to a text before its model sees it (Kudo and Richardson 2018, arXiv 1808.06226,
/// and the library's NormalizerSpec): rules replace the longest matches, spaces become "▁" (U+2581).
struct SentencePieceNormalizer {
  std::optional<Charsmap> rules{};
  Prefix prefix = Prefix::first;          ///< "add_dummy_prefix"
  bool remove_extra_whitespaces = false;  ///< around the text, and all but one of several in a row
  ByteTrie kept{};                        ///< user-defined symbols, which the rules leave alone

  /// `text` is UTF-8. `at_start`: it stands at the beginning of the whole.
  std::string apply(std::string_view text, bool at_start) const;
};

}  // namespace backburn::text
