#include "backburn/text/gguf_vocabulary.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <unordered_map>

#include "backburn/base/error.h"
#include "backburn/text/sentencepiece.h"
#include "backburn/text/tokenizer_json.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

// The expressions are those that the models' own tokenizer.json files carry.
const char* const qwen2_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const llama3_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const tekken_regex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const gpt_4o_regex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const char* const gpt2_regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";
const char* const deepseek_script_regex = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
const char* const deepseek_regex =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json split_step(const char* regex) {
  const Json pattern = {{"Regex", regex}};
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}};
}

Json digits_step(bool individual) { return {{"type", "Digits"}, {"individual_digits", individual}}; }

Json sequence_of(std::initializer_list<Json> steps) {
  Json list = Json::array();
  for (const Json& step : steps) list.push_back(step);
  return {{"type", "Sequence"}, {"pretokenizers", std::move(list)}};
}

Json split_by(const char* regex) { return sequence_of({split_step(regex), byte_level(false)}); }

// The pre-tokenizer (and normalizer) that a GGUF file names by tokenizer.ggml.pre.
struct NamedPreTokenizer {
  Json normalizer;  // null or {"type": "NFC"}
  Json pre_tokenizer;
  bool ignore_merges = false;
};

// Errors: a name that is not known; the known ones are listed.
NamedPreTokenizer named_pre_tokenizer(const std::string& name, const std::string& origin) {
  auto is_one_of = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (is_one_of({"gpt-2", "gpt2", "phi-2", "olmo", "mpt"})) return {nullptr, byte_level(true)};
  if (is_one_of({"smollm", "starcoder", "refact", "command-r", "codeshell"})) {
    return {nullptr, sequence_of({digits_step(true), byte_level(true)})};
  }
  if (is_one_of({"qwen2", "stablelm2", "deepseek-r1-qwen"})) return {Json{{"type", "NFC"}}, split_by(qwen2_regex)};
  if (is_one_of({"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"})) {
    return {nullptr, split_by(llama3_regex), true};
  }
  if (is_one_of({"smaug-bpe", "dbrx"})) return {nullptr, split_by(llama3_regex)};
  if (is_one_of({"tekken"})) return {nullptr, split_by(tekken_regex), true};
  if (is_one_of({"gpt-4o", "llama4"})) return {nullptr, split_by(gpt_4o_regex)};
  if (is_one_of({"deepseek-v3"})) {
    return {nullptr, sequence_of({split_step(R"(\p{N}{1,3})"), split_step(deepseek_script_regex),
                                  split_step(deepseek_regex), byte_level(false)})};
  }
  if (is_one_of({"default", "falcon"})) {  // as llama.cpp does it; published tokenizers have no such sequence
    const Json symbols = split_step(name == "falcon" ? R"([\p{P}\$\+<=>\^~\|`]+)" : R"([\p{P}\$\+<=>\^~\|]+)");
    const Json threes = split_step("[0-9][0-9][0-9]");
    if (name == "falcon") return {nullptr, sequence_of({symbols, split_step(gpt2_regex), threes, byte_level(false)})};
    return {nullptr,
            sequence_of({symbols, split_step(gpt2_regex), split_step(R"(\p{N}+)"), threes, byte_level(false)})};
  }
  fail(
      "{}: pre-tokenizer \"{}\" (tokenizer.ggml.pre) is not known; known are gpt-2, phi-2, olmo, mpt, smollm, "
      "starcoder, "
      "refact, command-r, codeshell, qwen2, stablelm2, deepseek-r1-qwen, llama-bpe, llama-v3, falcon3, pixtral, "
      "smaug-bpe, dbrx, tekken, gpt-4o, llama4, deepseek-v3, falcon and default; use the model's Hugging Face folder "
      "instead.",
      origin, name);
}

enum TokenType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

void take_tokens(const Vocabulary& vocabulary, const std::string& origin, TokenizerParts& parts) {
  const size_t count = vocabulary.tokens.size();
  if (count == 0) fail("{}: tokenizer.ggml.tokens is empty.", origin);
  if (count > (size_t{1} << 24)) fail("{}: tokenizer.ggml.tokens has {} entries, more than 2^24.", origin, count);
  if (!vocabulary.token_types.empty() && vocabulary.token_types.size() != count) {
    fail("{}: tokenizer.ggml.token_type has {} entries for {} tokens.", origin, vocabulary.token_types.size(), count);
  }
  parts.tokens.resize(count);
  parts.in_model.assign(count, 0);
  std::unordered_map<std::string_view, size_t> seen;
  seen.reserve(count);
  for (size_t id = 0; id < count; ++id) {
    const std::string& token = vocabulary.tokens[id];
    const int32_t type = vocabulary.token_types.empty() ? normal : vocabulary.token_types[id];
    if (type < normal || type > byte) {
      fail("{}: tokenizer.ggml.token_type[{}] is {}; expected 1 to 6.", origin, id, type);
    }
    if (token.empty()) {
      if (type == unused) continue;
      fail("{}: tokenizer.ggml.tokens[{}] is empty.", origin, id);
    }
    if (!is_utf8(token)) fail("{}: tokenizer.ggml.tokens[{}] is not UTF-8.", origin, id);
    const auto [first, is_new] = seen.emplace(token, id);
    if (!is_new) {
      if (type == unused) continue;
      fail("{}: tokenizer.ggml.tokens[{}] is \"{}\", as is entry {}.", origin, id, token, first->second);
    }
    if (type == byte && vocabulary.model == "gpt2") {
      fail("{}: token {} is a byte token, which byte-level BPE (tokenizer.ggml.model \"gpt2\") does not have.", origin,
           id);
    }
    parts.tokens[id] = token;
    // Byte-level BPE counts every token as the model's, as `tokenizers` does when a tokenizer.json lists them so.
    parts.in_model[id] = vocabulary.model == "gpt2" || type == normal || type == unused;
    if (type == control || type == unknown || type == user_defined) {
      parts.added.push_back({.id = static_cast<int32_t>(id), .content = token, .special = type != user_defined});
    }
    if (type == unknown && vocabulary.model != "gpt2") parts.model.unknown = static_cast<int32_t>(id);
  }
}

void take_sentencepiece(const Vocabulary& vocabulary, const std::string& origin, TokenizerParts& parts) {
  if (vocabulary.scores.size() != vocabulary.tokens.size()) {
    fail("{}: tokenizer.ggml.scores has {} entries for {} tokens.", origin, vocabulary.scores.size(),
         vocabulary.tokens.size());
  }
  for (size_t id = 0; id < vocabulary.scores.size(); ++id) {
    if (!std::isfinite(vocabulary.scores[id])) fail("{}: tokenizer.ggml.scores[{}] is not a number.", origin, id);
  }
  // llama.cpp puts the space before every part between special tokens.
  SentencePieceNormalizer normalizer{.prefix = vocabulary.add_space_prefix ? Prefix::always : Prefix::never,
                                     .remove_extra_whitespaces = vocabulary.remove_extra_whitespaces};
  if (!vocabulary.charsmap.empty()) {
    normalizer.rules = Charsmap::parse(vocabulary.charsmap, origin + ": tokenizer.ggml.precompiled_charsmap");
  }
  parts.model.byte_fallback = std::find(parts.tokens.begin(), parts.tokens.end(), "<0x00>") != parts.tokens.end();
  parts.model.kind = vocabulary.model == "t5" ? ModelParts::Kind::unigram : ModelParts::Kind::bpe;
  finish_sentencepiece(parts, vocabulary.scores, std::move(normalizer), vocabulary.charsmap, origin);
}

}  // namespace

TokenizerParts parts_of(const Vocabulary& vocabulary, const std::string& origin) {
  TokenizerParts parts;
  if (vocabulary.model == "llama" || vocabulary.model == "t5") {
    take_tokens(vocabulary, origin, parts);
    take_sentencepiece(vocabulary, origin, parts);
    return parts;
  }
  if (vocabulary.model != "gpt2") {
    fail("{}: tokenizer \"{}\" (tokenizer.ggml.model) is not known; known are gpt2, llama and t5.", origin,
         vocabulary.model);
  }
  NamedPreTokenizer named = named_pre_tokenizer(vocabulary.pre, origin);
  parts.normalizer = std::move(named.normalizer);
  parts.pre_tokenizer = std::move(named.pre_tokenizer);
  parts.decoder = byte_level(true);
  parts.model.ignore_merges = named.ignore_merges;
  take_tokens(vocabulary, origin, parts);
  parts.model.merges.reserve(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    parts.model.merges.push_back(split_merge(vocabulary.merges[rank], rank, origin + ": tokenizer.ggml.merges"));
  }
  return parts;
}

}  // namespace backburn::text
