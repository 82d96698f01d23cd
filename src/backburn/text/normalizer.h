#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/text/charsmap.h"
#include "backburn/text/regex.h"

namespace backburn::text {

/// What is done to a text before it is cut, as a tokenizer.json's "normalizer" has it: BertNormalizer, ByteLevel,
/// Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Precompiled, Prepend, Replace, Sequence, Strip, StripAccents.
class Normalizer {
 public:
  /// Null: the text stays as it is. Errors: another type of step, a missing or wrong value.
  static Normalizer from_json(const Json& json, const std::string& where);

  /// `text` is UTF-8, as is the result. Errors: a regular expression needs too much time or memory for this text.
  std::string apply(std::string_view text) const;

 private:
  enum class Kind {
    bert_clean,
    bert_chinese,
    bert_accents,
    byte_level,
    lowercase,
    nfc,
    nfd,
    nfkc,
    nfkd,
    nmt,
    precompiled,
    prepend,
    replace_regex,
    replace_string,
    strip_left,
    strip_right,
    strip_accents,
  };
  struct Step {
    Kind kind;
    std::string from{};  // replace_string
    std::string to{};    // replace_…, prepend
    std::vector<Regex> regex{};
    std::vector<Charsmap> charsmap{};
  };
  void add_steps(const Json& json, const std::string& where, int depth);
  static std::string apply(const Step& step, std::string_view text);
  std::vector<Step> steps_;
};

/// `text` with every `from` (not empty) replaced by `to`.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

/// `text` with all that `regex` matches replaced by `to`.
std::string replace_all(std::string_view text, const Regex& regex, std::string_view to);

}  // namespace backburn::text
