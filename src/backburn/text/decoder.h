#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/text/regex.h"

namespace backburn::text {

/// From tokens back to text, as a tokenizer.json's "decoder" has it: BPEDecoder, ByteFallback, ByteLevel, CTC, Fuse,
/// Metaspace, Replace, Sequence, Strip, WordPiece. Tokens are given one after the other, and text comes out as soon as
/// nothing that follows can change it.
class Decoder {
 public:
  /// Null: the tokens with spaces between. Errors: another type of step, a missing or wrong value.
  static Decoder from_json(const Json& json, const std::string& where);

  /// What a step remembers of the tokens before.
  struct StepState {
    size_t seen = 0;   // tokens, or what the step counts
    std::string held;  // what may still change
  };
  using State = std::vector<StepState>;
  State start() const { return State(steps_.size()); }

  /// Appends to `out` (UTF-8) the text that the next token, as the vocabulary writes it, settles.
  void push(State& state, std::string_view token, std::string& out) const { push_into(0, state, token, out); }

  /// The rest. The state is then used up.
  void finish(State& state, std::string& out) const;

 private:
  enum class Kind {
    between,  // spaces between tokens
    bpe,
    byte_fallback,
    byte_level,
    ctc,
    fuse,
    metaspace,
    replace_regex,
    replace_string,
    strip,
    word_piece,
  };
  struct Step {
    Kind kind;
    // All tokens have become one that goes on to the end: it comes in parts of whole characters.
    bool in_parts = false;
    std::string from{};   // what is replaced; word_piece, bpe: the affix; ctc: the pad token; strip: the character
    std::string to{};     // replace_…; ctc: the word delimiter
    bool flag = false;    // metaspace: the first token begins with a space; word_piece, ctc: cleanup
    size_t at_start = 0;  // strip: at most so many
    size_t at_end = 0;
    std::optional<Regex> regex{};

    // Must see all of a token that comes in parts.
    bool waits_for_all() const;
  };
  void add_steps(const Json& json, const std::string& where, int depth);
  void push_into(size_t index, State& state, std::string_view token, std::string& out) const;
  void push_whole(size_t index, State& state, std::string_view token, std::string& out) const;
  std::vector<Step> steps_;
};

}  // namespace backburn::text
