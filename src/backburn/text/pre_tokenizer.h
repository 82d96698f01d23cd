#pragma once

#include <string>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/text/regex.h"

namespace backburn::text {

/// The steps that cut a text into pieces before byte-pair merging, as a tokenizer.json's "pre_tokenizer" has
/// them: Sequence, Split, Digits, and, once and last, ByteLevel.
class PreTokenizer {
 public:
  /// Errors: another type of step, a missing or wrong value, no ByteLevel step.
  static PreTokenizer from_json(const Json& json, const std::string& where);

  /// Cuts `text` (UTF-8) into pieces, none empty. `text` may grow by the spaces that `add_prefix_space` asks
  /// for.
  std::vector<Span> apply(std::string& text) const;

 private:
  enum class Behavior { isolated, removed, contiguous, merged_with_previous, merged_with_next };
  struct Step {
    Regex regex;
    Behavior behavior = Behavior::isolated;
    bool invert = false;
  };
  PreTokenizer() = default;
  void add_steps(const Json& json, const std::string& where, int depth);
  static std::vector<Span> split(const Step& step, std::string_view text, const std::vector<Span>& parts);

  std::vector<Step> steps_;
  bool byte_level_ = false;
  bool add_prefix_space_ = false;
  size_t steps_before_prefix_ = 0;
};

/// The pre-tokenizer (and normalizer) that a GGUF file names by tokenizer.ggml.pre.
struct NamedPreTokenizer {
  Json normalizer;  ///< null or {"type": "NFC"}
  Json pre_tokenizer;
  bool ignore_merges = false;
};
/// Errors: a name that is not known; the known ones are listed.
NamedPreTokenizer named_pre_tokenizer(const std::string& name, const std::string& origin);

}  // namespace backburn::text
