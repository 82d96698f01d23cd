#include "backburn/text/gguf_vocabulary.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "backburn/base/error.h"
#include "backburn/text/gguf_pre_tokenizer.h"
#include "backburn/text/sentencepiece.h"
#include "backburn/text/tokenizer_json.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

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
    if (type == unused && (token.empty() || token == unused_token(id))) continue;
    if (token.empty()) fail("{}: tokenizer.ggml.tokens[{}] is empty.", origin, id);
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

std::string unused_token(size_t id) { return fmt::format("[PAD{}]", id); }

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
  parts.decoder = byte_level_decoder();
  parts.model.ignore_merges = named.ignore_merges;
  take_tokens(vocabulary, origin, parts);
  parts.model.merges.reserve(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    parts.model.merges.push_back(split_merge(vocabulary.merges[rank], rank, origin + ": tokenizer.ggml.merges"));
  }
  return parts;
}

}  // namespace backburn::text
