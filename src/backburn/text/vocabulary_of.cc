#include "backburn/text/vocabulary_of.h"

#include <string_view>

#include "backburn/base/error.h"
#include "backburn/text/gguf_pre_tokenizer.h"
#include "backburn/text/tokenizer.h"
#include "backburn/text/tokenizer_json.h"

namespace backburn::text {
namespace {

// GGUF's token types.
enum TokenType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

// Whether a text begins with "\u2581" before its first word.
bool has_space_prefix(const TokenizerParts& parts) {
  if (parts.sentencepiece) return parts.sentencepiece->prefix != Prefix::never;
  for (const auto& step : steps_of(parts.pre_tokenizer)) {
    if (step.value("type", "") != "Metaspace") continue;
    return step.value("prepend_scheme", step.value("add_prefix_space", true) ? "always" : "never") != "never";
  }
  return has_step(parts.normalizer, "Prepend");
}

// llama.cpp merges the neighbours that together have the highest score: a token's is minus the rank of the first merge
// that makes it.
std::vector<double> scores_of_merges(const TokenizerParts& parts, size_t size) {
  const ModelParts& model = parts.model;
  const TokenIds ids(parts, /*of_model=*/true);
  std::vector<double> scores(size, 0);
  std::vector<char> made(size, 0);
  for (size_t i = 0; i < model.merges.size(); ++i) {
    const int32_t id = ids.find(model.merges[i].first + model.merges[i].second);
    if (id < 0 || made[static_cast<size_t>(id)]) continue;
    made[static_cast<size_t>(id)] = 1;
    scores[static_cast<size_t>(id)] = -static_cast<double>(model.merge_ranks.empty() ? i : model.merge_ranks[i]);
  }
  const auto unmade = -static_cast<double>(model.merges.size());
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.in_model[id] && !made[id]) scores[id] = unmade;
  }
  return scores;
}

bool is_byte_token(std::string_view token) {
  return token.size() == 6 && token.starts_with("<0x") && token.back() == '>';
}

}  // namespace

Vocabulary vocabulary_of(const TokenizerParts& parts, size_t size) {
  if (parts.tokens.size() > size) fail("the tokenizer has {} tokens, the model only {}", parts.tokens.size(), size);
  const ModelParts& model = parts.model;
  const bool byte_level = has_step(parts.pre_tokenizer, "ByteLevel");
  const bool plain_bpe =
      model.kind == ModelParts::Kind::bpe && model.subword_prefix.empty() && model.word_suffix.empty();
  if (!plain_bpe || byte_level == model.byte_fallback || has_step(parts.normalizer, "Precompiled")) {
    fail(
        "GGUF export knows byte-level BPE, and SentencePiece's BPE without normalization rules; this tokenizer is "
        "neither, export safetensors instead");
  }
  Vocabulary vocabulary;
  for (size_t id = 0; id < size; ++id) {
    const bool there = id < parts.tokens.size() && !parts.tokens[id].empty();
    vocabulary.tokens.push_back(there ? parts.tokens[id] : unused_token(id));
    int32_t type = there ? normal : unused;
    if (model.byte_fallback && there && is_byte_token(parts.tokens[id])) type = byte;
    vocabulary.token_types.push_back(type);
  }
  for (const AddedToken& token : parts.added) {
    int32_t type = token.special ? control : user_defined;
    if (model.byte_fallback && token.id == model.unknown) type = unknown;
    vocabulary.token_types[static_cast<size_t>(token.id)] = type;
  }
  if (byte_level) {
    vocabulary.pre = name_of_pre_tokenizer(parts);
    for (const auto& [left, right] : model.merges) vocabulary.merges.push_back(fmt::format("{} {}", left, right));
    return vocabulary;
  }
  vocabulary.model = "llama";
  vocabulary.scores = scores_of_merges(parts, size);
  vocabulary.add_space_prefix = has_space_prefix(parts);
  return vocabulary;
}

Vocabulary vocabulary_of(const Tokenizer& tokenizer, size_t size) {
  return vocabulary_of(parts_of_json(tokenizer.to_json().dump(), "the tokenizer"), size);
}

}  // namespace backburn::text
