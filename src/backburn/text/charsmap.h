#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace backburn::text {

/// SentencePiece's compiled normalization rules ("precompiled_charsmap"): which byte strings become which. The format
/// is a double-array trie in Darts-clone's units (little-endian uint32), then the replacements, each ended by a zero
/// byte.
class Charsmap {
 public:
  /// Errors: sizes that don't fit. Everything else inside is checked when it is used.
  static Charsmap parse(std::string_view bytes, const std::string& where);

  struct Match {
    size_t length = 0;  ///< bytes of text
    std::string_view replacement;
  };
  /// The shortest rule that `text` begins with.
  std::optional<Match> shortest(std::string_view text) const;
  /// The longest rule that `text` begins with.
  std::optional<Match> longest(std::string_view text) const;

  /// `text` normalized as Hugging Face `tokenizers` does it: by grapheme clusters of up to 5 bytes, the shortest rule
  /// that one begins with replacing all of it; else character by character.
  std::string apply_by_graphemes(std::string_view text) const;

 private:
  template <typename Visit>
  void walk(std::string_view text, const Visit& visit) const;
  std::vector<uint32_t> units_;
  std::string replacements_;
};

/// The bytes of a base64 text. Errors: not base64.
std::string base64_bytes(std::string_view text, const std::string& where);

}  // namespace backburn::text
