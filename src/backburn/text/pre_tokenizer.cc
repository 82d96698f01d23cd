#include "backburn/text/pre_tokenizer.h"

#include <fmt/ranges.h>

#include "backburn/base/error.h"
#include "backburn/text/json_fields.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

// The expressions are those that the models' own tokenizer.json files carry.
const char* const gpt2_regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const qwen2_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const llama3_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const tekken_regex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// What Rust's char::is_numeric says in `tokenizers` 0.23: Unicode 17, so a few numbers more than its regex
// engine knows.
const char* const digits_regex = R"([\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}])";

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json sequence_of(Json first, Json second) {
  Json steps = Json::array();
  steps.push_back(std::move(first));
  steps.push_back(std::move(second));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

Json split_by(const char* regex) {
  Json pattern = {{"Regex", regex}};
  Json split = {{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}};
  return sequence_of(std::move(split), byte_level(false));
}

}  // namespace

PreTokenizer PreTokenizer::from_json(const Json& json, const std::string& where) {
  PreTokenizer result;
  result.add_steps(json, where, 0);
  if (!result.byte_level_) fail("{}: no ByteLevel step, and only byte-level tokenizers can be used.", where);
  return result;
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
  if (byte_level_) fail("{}: a step after ByteLevel, which must be the last one.", where);
  if (steps_.size() >= 64) fail("{}: more than 64 steps.", where);
  if (type == "Split") {
    const Json& pattern = field(json, "pattern", where);
    const std::string place = where + ".pattern";
    const bool literal = pattern.is_object() && pattern.contains("String");
    const std::string source = string_field(pattern, literal ? "String" : "Regex", place);
    if (source.empty()) fail("{}: the pattern is empty.", place);
    const std::string name = string_field(json, "behavior", where);
    Behavior behavior = Behavior::isolated;
    if (name == "Isolated") {
      behavior = Behavior::isolated;
    } else if (name == "Removed") {
      behavior = Behavior::removed;
    } else if (name == "Contiguous") {
      behavior = Behavior::contiguous;
    } else if (name == "MergedWithPrevious") {
      behavior = Behavior::merged_with_previous;
    } else if (name == "MergedWithNext") {
      behavior = Behavior::merged_with_next;
    } else {
      fail(
          "{}: behavior \"{}\" is not known; expected Isolated, Removed, Contiguous, MergedWithPrevious or "
          "MergedWithNext.",
          where, name);
    }
    steps_.push_back({literal ? Regex::literal(source, place) : Regex::compile(source, place), behavior,
                      bool_field(json, "invert", false, where)});
  } else if (type == "Digits") {
    const bool individual = bool_field(json, "individual_digits", false, where);
    steps_.push_back(
        {Regex::compile(digits_regex, where), individual ? Behavior::isolated : Behavior::contiguous, false});
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    add_prefix_space_ = bool_field(json, "add_prefix_space", true, where);
    steps_before_prefix_ = steps_.size();
    if (bool_field(json, "use_regex", true, where)) {
      steps_.push_back({Regex::compile(gpt2_regex, where), Behavior::isolated, false});
    }
  } else {
    fail("{}: step \"{}\" is not supported; expected Sequence, Split, Digits or ByteLevel.", where, type);
  }
}

std::vector<Span> PreTokenizer::apply(std::string& text) const {
  std::vector<Span> parts;
  if (!text.empty()) parts.push_back({0, text.size()});
  for (size_t i = 0; i <= steps_.size(); ++i) {
    if (add_prefix_space_ && i == steps_before_prefix_) {
      std::string spaced;
      for (Span& part : parts) {
        const size_t begin = spaced.size();
        if (text[part.begin] != ' ') spaced.push_back(' ');
        spaced.append(text, part.begin, part.end - part.begin);
        part = {begin, spaced.size()};
      }
      text = std::move(spaced);
    }
    if (i < steps_.size()) parts = split(steps_[i], text, parts);
  }
  return parts;
}

std::vector<Span> PreTokenizer::split(const Step& step, std::string_view text, const std::vector<Span>& parts) {
  const std::vector<std::vector<Span>> matches = step.regex.find_all(text, parts);
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
      if (at < match.begin) pieces.push_back({{at, match.begin}, step.invert});
      pieces.push_back({match, !step.invert});
      at = match.end;
    }
    if (at < parts[i].end) pieces.push_back({{at, parts[i].end}, step.invert});

    const size_t first = result.size();
    bool before = false;  // whether the piece before was a match
    for (size_t j = 0; j < pieces.size(); ++j) {
      const auto [span, match] = pieces[j];
      bool join = false;
      switch (step.behavior) {
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

NamedPreTokenizer named_pre_tokenizer(const std::string& name, const std::string& origin) {
  auto is_one_of = [&](std::initializer_list<const char*> names) {
    for (const char* one : names) {
      if (name == one) return true;
    }
    return false;
  };
  if (is_one_of({"gpt-2", "gpt2", "phi-2", "olmo", "mpt"})) {
    return {nullptr, byte_level(true), false};
  }
  if (is_one_of({"smollm", "starcoder", "refact", "command-r", "codeshell"})) {
    Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    return {nullptr, sequence_of(std::move(digits), byte_level(true)), false};
  }
  if (is_one_of({"qwen2", "stablelm2", "deepseek-r1-qwen"})) {
    return {Json{{"type", "NFC"}}, split_by(qwen2_regex), false};
  }
  if (is_one_of({"llama-bpe", "llama3"})) return {nullptr, split_by(llama3_regex), true};
  if (is_one_of({"smaug-bpe", "dbrx"})) return {nullptr, split_by(llama3_regex), false};
  if (is_one_of({"tekken"})) return {nullptr, split_by(tekken_regex), true};
  fail(
      "{}: pre-tokenizer \"{}\" (tokenizer.ggml.pre) is not known; known are gpt-2, smollm, starcoder, "
      "refact, "
      "command-r, codeshell, qwen2, stablelm2, deepseek-r1-qwen, llama-bpe, smaug-bpe, dbrx, tekken, olmo, "
      "mpt; use "
      "the model's Hugging Face folder instead.",
      origin, name);
}

}  // namespace backburn::text
