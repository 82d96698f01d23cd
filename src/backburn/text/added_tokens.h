#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace backburn::text {

/// A token that is cut out of the text before the model sees it, as "added_tokens" of a tokenizer.json has it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   ///< looked for after normalization, and normalized itself
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space after it
  bool single_word = false;  ///< only where no word character stands beside it
};

/// Finds added tokens in a text: leftmost first, the longest of those that begin at one place.
class AddedTokenFinder {
 public:
  /// `key` is what to look for, not empty: the content of `token`, or that normalized.
  void add(std::string key, const AddedToken& token);

  struct Part {
    std::string_view text;  ///< what lies between tokens; empty for a token
    int32_t id = -1;        ///< −1: not a token
  };
  /// `text` (UTF-8) cut at the tokens, in order, without empty parts. With `parse_special` false special tokens
  /// are ordinary text.
  std::vector<Part> cut(std::string_view text, bool parse_special) const;

 private:
  struct Entry {
    std::string key;
    AddedToken token;
  };
  const Entry* find(std::string_view text, size_t at) const;
  std::array<std::vector<Entry>, 256> by_first_byte_;  // the longest keys first
  bool any_ = false;
};

}  // namespace backburn::text
