#include "backburn/text/decoder.h"

#include <algorithm>
#include <utility>

#include "backburn/base/error.h"
#include "backburn/text/byte_level.h"
#include "backburn/text/json_fields.h"
#include "backburn/text/normalizer.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

constexpr std::string_view replacement_character = "\uFFFD";

// The byte that "<0x0A>" writes, −1 for any other token.
int byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = 0;
  for (char c : token.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    const char letter = static_cast<char>(c | 0x20);
    if (!digit && (letter < 'a' || letter > 'f')) return -1;
    byte = byte * 16 + (digit ? c - '0' : letter - 'a' + 10);
  }
  return byte;
}

// The text of the bytes in `held` when they are UTF-8, else U+FFFD for each; `held` is then empty.
template <typename Give>
void give_bytes(std::string& held, const Give& give) {
  const std::string bytes = std::exchange(held, {});
  if (is_utf8(bytes)) {
    give(bytes);
  } else {
    for (size_t i = 0; i < bytes.size(); ++i) give(replacement_character);
  }
}

// Undoes the spaces that word-piece tokenization puts around English punctuation.
std::string without_extra_spaces(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> rules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : rules) text = replace_all(text, from, to);
  return text;
}

// Takes whole characters off the front of `pending`, repaired; all of it when `all`.
std::string take_characters(std::string& pending, bool all) {
  if (all) return repaired_utf8(std::exchange(pending, {}));
  size_t at = 0;
  while (at < pending.size()) {
    const Utf8Step step = utf8_step(pending, at);
    if (step.unfinished) break;
    at += step.length;
  }
  std::string whole = repaired_utf8(std::string_view(pending).substr(0, at));
  pending.erase(0, at);
  return whole;
}

// `token` without up to `most` times `what` at its start, or end.
std::string_view strip_start(std::string_view token, std::string_view what, size_t most) {
  for (size_t i = 0; i < most && token.starts_with(what); ++i) token.remove_prefix(what.size());
  return token;
}
std::string_view strip_end(std::string_view token, std::string_view what, size_t most) {
  for (size_t i = 0; i < most && token.ends_with(what); ++i) token.remove_suffix(what.size());
  return token;
}

std::string character_field(const Json& json, const char* key, const std::string& where) {
  std::string text = string_field(json, key, where);
  if (utf8_length(text) != 1) fail("{}.{}: expected one character.", where, key);
  return text;
}

}  // namespace

bool Decoder::Step::waits_for_all() const {
  switch (kind) {
    case Kind::replace_string: return utf8_length(from) > 1;  // a match may begin in one part and end in the next
    case Kind::replace_regex: return true;
    case Kind::strip: return at_end > 0;
    case Kind::bpe:
    case Kind::byte_fallback:
    case Kind::byte_level:
    case Kind::ctc:
    case Kind::word_piece: return true;
    case Kind::between:
    case Kind::fuse:
    case Kind::metaspace: return false;
  }
  return true;
}

Decoder Decoder::from_json(const Json& json, const std::string& where) {
  Decoder result;
  if (json.is_null()) {
    result.steps_.push_back({Kind::between});
    return result;
  }
  result.add_steps(json, where, 0);
  bool in_parts = false;
  for (Step& step : result.steps_) {
    step.in_parts = in_parts;
    in_parts = in_parts || step.kind == Kind::fuse || step.kind == Kind::byte_level;
  }
  return result;
}

void Decoder::add_steps(const Json& json, const std::string& where, int depth) {
  if (depth > 8) fail("{}: Sequences inside Sequences, more than 8 deep.", where);
  if (steps_.size() >= 64) fail("{}: more than 64 steps.", where);
  const std::string type = string_field(json, "type", where);
  const auto text_or = [&](const char* key, const char* fallback) {
    return json.contains(key) ? string_field(json, key, where) : std::string(fallback);
  };
  if (type == "Sequence") {
    const Json& list = list_field(json, "decoders", where);
    for (size_t i = 0; i < list.size(); ++i) add_steps(list[i], fmt::format("{}.decoders[{}]", where, i), depth + 1);
  } else if (type == "ByteLevel") {
    steps_.push_back({.kind = Kind::byte_level});
  } else if (type == "ByteFallback") {
    steps_.push_back({.kind = Kind::byte_fallback});
  } else if (type == "Fuse") {
    steps_.push_back({.kind = Kind::fuse});
  } else if (type == "Metaspace") {
    Step step{.kind = Kind::metaspace, .from = "\u2581"};
    if (json.contains("replacement")) step.from = character_field(json, "replacement", where);
    step.flag = json.contains("prepend_scheme") ? string_field(json, "prepend_scheme", where) != "never"
                                                : bool_field(json, "add_prefix_space", true, where);
    steps_.push_back(std::move(step));
  } else if (type == "Replace") {
    const Pattern pattern = pattern_field(json, where);
    Step step{.kind = pattern.literal ? Kind::replace_string : Kind::replace_regex,
              .from = pattern.source,
              .to = string_field(json, "content", where)};
    if (!pattern.literal) step.regex = Regex::compile(pattern.source, where + ".pattern");
    steps_.push_back(std::move(step));
  } else if (type == "Strip") {
    steps_.push_back({.kind = Kind::strip,
                      .from = character_field(json, "content", where),
                      .at_start = count_field(json, "start", 0, where),
                      .at_end = count_field(json, "stop", 0, where)});
  } else if (type == "WordPiece") {
    steps_.push_back(
        {.kind = Kind::word_piece, .from = text_or("prefix", "##"), .flag = bool_field(json, "cleanup", true, where)});
  } else if (type == "BPEDecoder") {
    Step step{.kind = Kind::bpe, .from = text_or("suffix", "</w>")};
    if (step.from.empty()) fail("{}.suffix: expected at least one character.", where);
    steps_.push_back(std::move(step));
  } else if (type == "CTC") {
    Step step{.kind = Kind::ctc,
              .from = text_or("pad_token", "<pad>"),
              .to = text_or("word_delimiter_token", "|"),
              .flag = bool_field(json, "cleanup", true, where)};
    if (step.from.empty() || step.to.empty()) fail("{}: pad_token and word_delimiter_token must not be empty.", where);
    steps_.push_back(std::move(step));
  } else {
    fail(
        "{}: decoder \"{}\" is not supported; expected BPEDecoder, ByteFallback, ByteLevel, CTC, Fuse, Metaspace, "
        "Replace, Sequence, Strip or WordPiece.",
        where, type);
  }
}

void Decoder::push_into(size_t index, State& state, std::string_view token, std::string& out) const {
  if (index == steps_.size()) {
    out += token;
    return;
  }
  if (steps_[index].in_parts && steps_[index].waits_for_all()) {
    state[index].held += token;
  } else {
    push_whole(index, state, token, out);
  }
}

void Decoder::push_whole(size_t index, State& state, std::string_view token, std::string& out) const {
  const Step& step = steps_[index];
  StepState& mine = state[index];
  const auto give = [&](std::string_view text) { push_into(index + 1, state, text, out); };
  const bool first = mine.seen == 0;
  switch (step.kind) {
    case Kind::between:
      ++mine.seen;
      give(first ? std::string(token) : " " + std::string(token));
      break;
    case Kind::bpe:
      // The last token's suffix is dropped, any other's becomes a space: each waits for the next.
      if (!first) give(replace_all(mine.held, step.from, " "));
      ++mine.seen;
      mine.held = token;
      break;
    case Kind::byte_fallback:
      if (const int byte = byte_of(token); byte >= 0) {
        mine.held.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
      } else {
        if (!mine.held.empty()) give_bytes(mine.held, give);
        give(token);
      }
      break;
    case Kind::byte_level:
      mine.held += bytes_of_characters(token).value_or(std::string(token));
      give(take_characters(mine.held, false));
      break;
    case Kind::ctc: {
      const bool again = !first && mine.held == token;
      ++mine.seen;
      mine.held = token;
      if (again) break;
      std::string text = replace_all(token, step.from, "");
      if (step.flag) text = replace_all(without_extra_spaces(text), step.to, " ");
      if (!text.empty()) give(text);
      break;
    }
    case Kind::fuse: give(token); break;
    case Kind::metaspace: give(replace_all(token, step.from, first && step.flag ? "" : " ")); break;
    case Kind::replace_regex: give(replace_all(token, *step.regex, step.to)); break;
    case Kind::replace_string: give(replace_all(token, step.from, step.to)); break;
    case Kind::strip:
      if (!step.in_parts) {
        give(strip_end(strip_start(token, step.from, step.at_start), step.from, step.at_end));
      } else {
        const std::string_view rest = strip_start(token, step.from, step.at_start - mine.seen);
        mine.seen = rest.empty() ? mine.seen + token.size() / step.from.size() : step.at_start;
        give(rest);
      }
      break;
    case Kind::word_piece: {
      std::string text(token);
      if (!first) text = text.starts_with(step.from) ? text.substr(step.from.size()) : " " + text;
      ++mine.seen;
      give(step.flag ? without_extra_spaces(std::move(text)) : text);
      break;
    }
  }
  if (step.kind == Kind::metaspace && !step.in_parts) ++mine.seen;
}

void Decoder::finish(State& state, std::string& out) const {
  for (size_t index = 0; index < steps_.size(); ++index) {
    const Step& step = steps_[index];
    StepState& mine = state[index];
    const auto give = [&](std::string_view text) { push_into(index + 1, state, text, out); };
    if (step.in_parts && step.waits_for_all()) {
      const std::string all = std::exchange(mine.held, {});
      push_whole(index, state, all, out);
    }
    if (step.kind == Kind::bpe && mine.seen > 0) give(replace_all(mine.held, step.from, ""));
    if (step.kind == Kind::byte_fallback && !mine.held.empty()) give_bytes(mine.held, give);
    if (step.kind == Kind::byte_level) give(take_characters(mine.held, true));
  }
}

}  // namespace backburn::text
