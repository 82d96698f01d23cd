#include "backburn/text/pre_tokenizer.h"

#include "backburn/base/error.h"
#include "backburn/text/byte_level.h"
#include "backburn/text/json_fields.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

// ByteLevel's own, GPT-2's.
const char* const gpt2_regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// What Rust's char::is_numeric says in `tokenizers` 0.23: Unicode 17, so a few numbers more than its regex
// engine knows.
const char* const digits_regex = R"([\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}])";

// Rust's char::is_whitespace.
const char* const white_space_regex =
    R"([\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}])";

// Rust's regular expressions: \w+|[^\w\s]+
const char* const words_regex =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200C}\x{200D}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189}]+)"
    R"(|[^\s\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200C}\x{200D}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189}]+)";

// Punctuation by the reference's tables (Unicode 8): ASCII's symbols, what Unicode calls punctuation, without what it
// has called so since.
const char* const punctuation_regex =
    R"((?![\x{61D}\x{9FD}\x{A76}\x{C77}\x{C84}\x{1B7D}-\x{1B7E}\x{2E43}-\x{2E4F}\x{2E52}-\x{2E5D}\x{10EAD}\x{10F55}-\x{10F59})"
    R"(\x{10F86}-\x{10F89}\x{1144B}-\x{1144F}\x{1145A}-\x{1145B}\x{1145D}\x{11660}-\x{1166C}\x{116B9}\x{1183B}\x{11944}-\x{11946})"
    R"(\x{119E2}\x{11A3F}-\x{11A46}\x{11A9A}-\x{11A9C}\x{11A9E}-\x{11AA2}\x{11C41}-\x{11C45}\x{11C70}-\x{11C71}\x{11EF7}-\x{11EF8})"
    R"(\x{11FFF}\x{12FF1}-\x{12FF2}\x{16E97}-\x{16E9A}\x{16FE2}\x{1E95E}-\x{1E95F}]))"
    R"([\p{P}!-/:-@\[-`{-~\x{166D}\x{111C9}])";

constexpr const char* kinds =
    "BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, FixedLength, Metaspace, Punctuation, Sequence, Split, "
    "Whitespace or WhitespaceSplit";

// Writes `text` anew: `write(part, index, out)` appends what becomes of each part.
template <typename Write>
void rewrite(std::string& text, std::vector<Span>& parts, const Write& write) {
  std::string result;
  result.reserve(text.size() + 16);
  for (size_t i = 0; i < parts.size(); ++i) {
    const size_t begin = result.size();
    write(std::string_view(text).substr(parts[i].begin, parts[i].end - parts[i].begin), i, result);
    parts[i] = {begin, result.size()};
  }
  text = std::move(result);
}

Prefix prefix_field(const Json& json, const std::string& where) {
  if (!json.contains("prepend_scheme")) {  // older files
    return bool_field(json, "add_prefix_space", true, where) ? Prefix::always : Prefix::never;
  }
  const std::string name = string_field(json, "prepend_scheme", where);
  if (name == "always") return Prefix::always;
  if (name == "first") return Prefix::first;
  if (name == "never") return Prefix::never;
  fail("{}: prepend_scheme \"{}\" is not known; expected always, first or never.", where, name);
}

std::vector<std::vector<Span>> literal_matches(std::string_view text, std::string_view wanted,
                                               const std::vector<Span>& parts) {
  std::vector<std::vector<Span>> matches(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string_view part = text.substr(0, parts[i].end);
    for (size_t at = part.find(wanted, parts[i].begin); at != std::string_view::npos;
         at = part.find(wanted, at + wanted.size())) {
      matches[i].push_back({at, at + wanted.size()});
    }
  }
  return matches;
}

std::vector<Span> cut_by_length(std::string_view text, size_t length, const std::vector<Span>& parts) {
  std::vector<Span> result;
  for (const Span& part : parts) {
    size_t begin = part.begin;
    size_t characters = 0;
    for (size_t at = part.begin; at < part.end;) {
      at += utf8_step(text, at).length;
      if (++characters == length || at == part.end) {
        result.push_back({begin, at});
        begin = at;
        characters = 0;
      }
    }
  }
  return result;
}

}  // namespace

PreTokenizer PreTokenizer::from_json(const Json& json, const std::string& where) {
  PreTokenizer result;
  if (!json.is_null()) result.add_steps(json, where, 0);
  return result;
}

PreTokenizer::Behavior PreTokenizer::behavior_field(const Json& json, const std::string& where) {
  const std::string name = string_field(json, "behavior", where);
  constexpr std::pair<const char*, Behavior> names[] = {{"Isolated", Behavior::isolated},
                                                        {"Removed", Behavior::removed},
                                                        {"Contiguous", Behavior::contiguous},
                                                        {"MergedWithPrevious", Behavior::merged_with_previous},
                                                        {"MergedWithNext", Behavior::merged_with_next}};
  for (const auto& [known, behavior] : names) {
    if (name == known) return behavior;
  }
  fail(
      "{}: behavior \"{}\" is not known; expected Isolated, Removed, Contiguous, MergedWithPrevious or "
      "MergedWithNext.",
      where, name);
}

void PreTokenizer::add_split(const std::string& regex, Behavior behavior, const std::string& where) {
  steps_.push_back({.regex = Regex::compile(regex, where), .behavior = behavior});
}

void PreTokenizer::add_steps(const Json& json, const std::string& where, int depth) {
  if (depth > 8) fail("{}: Sequences inside Sequences, more than 8 deep.", where);
  const std::string type = string_field(json, "type", where);
  if (type == "Sequence") {
    const Json& list = list_field(json, "pretokenizers", where);
    for (size_t i = 0; i < list.size(); ++i) {
      add_steps(list[i], fmt::format("{}.pretokenizers[{}]", where, i), depth + 1);
    }
    return;
  }
  if (steps_.size() >= 64) fail("{}: more than 64 steps.", where);
  if (byte_level_) {  // this step sees ByteLevel's characters
    byte_level_ = false;
    steps_.push_back({.kind = Kind::byte_characters});
  }
  if (type == "Split") {
    const Pattern pattern = pattern_field(json, where);
    const std::string place = where + ".pattern";
    steps_.push_back(
        {.regex = pattern.literal ? Regex::literal(pattern.source, place) : Regex::compile(pattern.source, place),
         .behavior = behavior_field(json, where),
         .invert = bool_field(json, "invert", false, where)});
  } else if (type == "Digits") {
    const bool individual = bool_field(json, "individual_digits", false, where);
    add_split(digits_regex, individual ? Behavior::isolated : Behavior::contiguous, where);
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    if (bool_field(json, "add_prefix_space", true, where)) steps_.push_back({.kind = Kind::prefix_space});
    if (bool_field(json, "use_regex", true, where)) add_split(gpt2_regex, Behavior::isolated, where);
  } else if (type == "Metaspace") {
    Step step{.kind = Kind::metaspace,
              .replacement = json.contains("replacement") ? string_field(json, "replacement", where) : "\u2581",
              .prefix = prefix_field(json, where),
              .cut = bool_field(json, "split", true, where)};
    if (utf8_length(step.replacement) != 1) fail("{}.replacement: expected one character.", where);
    steps_.push_back(std::move(step));
  } else if (type == "Whitespace") {
    // Matches are the pieces, and white space between them is dropped.
    steps_.push_back({.regex = Regex::compile(words_regex, where), .behavior = Behavior::removed, .invert = true});
  } else if (type == "WhitespaceSplit") {
    add_split(white_space_regex, Behavior::removed, where);
  } else if (type == "Punctuation") {
    add_split(punctuation_regex, json.contains("behavior") ? behavior_field(json, where) : Behavior::isolated, where);
  } else if (type == "BertPreTokenizer") {
    add_split(white_space_regex, Behavior::removed, where);
    add_split(punctuation_regex, Behavior::isolated, where);
  } else if (type == "CharDelimiterSplit") {
    const std::string delimiter = string_field(json, "delimiter", where);
    if (utf8_length(delimiter) != 1) fail("{}.delimiter: expected one character.", where);
    steps_.push_back({.regex = Regex::literal(delimiter, where), .behavior = Behavior::removed});
  } else if (type == "FixedLength") {
    const size_t length = count_field(json, "length", 5, where);
    if (length == 0) fail("{}.length: expected at least 1.", where);
    steps_.push_back({.kind = Kind::fixed_length, .length = length});
  } else {
    fail("{}: pre-tokenizer \"{}\" is not supported; expected {}.", where, type, kinds);
  }
}

std::vector<Span> PreTokenizer::apply(std::string& text, bool at_start) const {
  std::vector<Span> parts;
  if (!text.empty()) parts.push_back({0, text.size()});
  for (const Step& step : steps_) {
    if (parts.empty()) break;
    at_start = at_start && parts[0].begin == 0;
    switch (step.kind) {
      case Kind::split: parts = split(step.regex->find_all(text, parts), step.behavior, step.invert, parts); break;
      case Kind::prefix_space:
        rewrite(text, parts, [](std::string_view part, size_t, std::string& out) {
          if (part[0] != ' ') out.push_back(' ');
          out.append(part);
        });
        break;
      case Kind::byte_characters:
        rewrite(text, parts,
                [](std::string_view part, size_t, std::string& out) { out.append(byte_characters(part)); });
        break;
      case Kind::metaspace:
        rewrite(text, parts, [&](std::string_view part, size_t i, std::string& out) {
          const bool wanted = step.prefix == Prefix::always || (step.prefix == Prefix::first && i == 0 && at_start);
          if (wanted && part[0] != ' ' && !part.starts_with(step.replacement)) out.append(step.replacement);
          for (char c : part) c == ' ' ? out.append(step.replacement) : out.append(1, c);
        });
        if (step.cut) {
          parts = split(literal_matches(text, step.replacement, parts), Behavior::merged_with_next, false, parts);
        }
        break;
      case Kind::fixed_length: parts = cut_by_length(text, step.length, parts); break;
    }
  }
  return parts;
}

// Cuts each part at its matches, as `behavior` says; `invert`: what lies between matches counts as the match.
std::vector<Span> PreTokenizer::split(const std::vector<std::vector<Span>>& matches, Behavior behavior, bool invert,
                                      const std::vector<Span>& parts) {
  struct Piece {
    Span span;
    bool match;
  };
  std::vector<Span> result;
  result.reserve(parts.size());
  std::vector<Piece> pieces;
  for (size_t i = 0; i < parts.size(); ++i) {
    pieces.clear();
    size_t at = parts[i].begin;
    for (const Span& match : matches[i]) {
      if (at < match.begin) pieces.push_back({{at, match.begin}, invert});
      pieces.push_back({match, !invert});
      at = match.end;
    }
    if (at < parts[i].end) pieces.push_back({{at, parts[i].end}, invert});

    const size_t first = result.size();
    bool before = false;  // whether the piece before was a match
    for (size_t j = 0; j < pieces.size(); ++j) {
      const auto [span, match] = pieces[j];
      bool join = false;
      switch (behavior) {
        case Behavior::isolated: break;
        case Behavior::removed:
          if (match) continue;
          break;
        case Behavior::contiguous: join = j > 0 && match == before; break;
        case Behavior::merged_with_previous: join = match && !before; break;
        case Behavior::merged_with_next:
          // A match takes what follows it, unless that is a match too.
          join = before && !match;
          break;
      }
      before = match;
      if (join && result.size() > first) {
        result.back().end = span.end;
      } else {
        result.push_back(span);
      }
    }
  }
  return result;
}

}  // namespace backburn::text
