#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/text/regex.h"

namespace backburn::text {

/// Where a space is put before a text: nowhere, at the beginning, or at the beginning of every part between added
/// tokens. Metaspace's "prepend_scheme".
enum class Prefix { never, first, always };

/// The steps that cut a text into pieces before the model sees it, as a tokenizer.json's "pre_tokenizer" has them:
/// BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, FixedLength, Metaspace, Punctuation, Sequence, Split,
/// Whitespace, WhitespaceSplit.
class PreTokenizer {
 public:
  /// Null: the whole text is one piece. Errors: another type of step, a missing or wrong value.
  static PreTokenizer from_json(const Json& json, const std::string& where);

  /// Cuts `text` (UTF-8) into pieces, none empty, in order, and rewrites it where a step asks for that. `at_start`: the
  /// text stands at the beginning of the whole.
  std::vector<Span> apply(std::string& text, bool at_start) const;

  /// The last step is ByteLevel: pieces are bytes that the model still has to see as byte_characters(piece).
  bool byte_level() const { return byte_level_; }

 private:
  enum class Behavior { isolated, removed, contiguous, merged_with_previous, merged_with_next };
  enum class Kind { split, prefix_space, byte_characters, metaspace, fixed_length };
  struct Step {
    Kind kind = Kind::split;
    std::optional<Regex> regex{};
    Behavior behavior = Behavior::isolated;
    bool invert = false;
    std::string replacement{};       // metaspace
    Prefix prefix = Prefix::always;  // metaspace
    bool cut = true;                 // metaspace: before each replacement
    size_t length = 0;               // fixed_length, in characters
  };
  PreTokenizer() = default;
  void add_steps(const Json& json, const std::string& where, int depth);
  void add_split(const std::string& regex, Behavior behavior, const std::string& where);
  static Behavior behavior_field(const Json& json, const std::string& where);
  static std::vector<Span> split(const std::vector<std::vector<Span>>& matches, Behavior behavior, bool invert,
                                 const std::vector<Span>& parts);

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace backburn::text
