#include "backburn/text/tokenizer.h"

#include <unordered_map>
#include <utility>
#include <variant>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/text/bpe.h"
#include "backburn/text/byte_level.h"
#include "backburn/text/normalizer.h"
#include "backburn/text/post_processor.h"
#include "backburn/text/pre_tokenizer.h"
#include "backburn/text/sentencepiece.h"
#include "backburn/text/tokenizer_json.h"
#include "backburn/text/unigram.h"
#include "backburn/text/utf8.h"
#include "backburn/text/word_piece.h"

namespace backburn::text {
namespace {

constexpr std::string_view word_mark = "\u2581";

using Model = std::variant<Bpe, Unigram, WordPiece, WordLevel>;

Model model_of(const TokenizerParts& parts, const TokenIds& ids, const TokenIds& all_ids, bool bytes,
               const std::string& origin) {
  const auto byte_ids = parts.model.byte_fallback ? all_ids.bytes() : std::vector<int32_t>();
  switch (parts.model.kind) {
    case ModelParts::Kind::bpe: return Bpe(parts, ids, byte_ids, bytes, origin);
    case ModelParts::Kind::unigram: return Unigram(parts, ids, byte_ids, origin);
    case ModelParts::Kind::word_piece: return WordPiece(parts, ids, origin);
    case ModelParts::Kind::word_level: return WordLevel(parts, ids);
  }
  fail("{}: unknown kind of model.", origin);
}

// Cuts pieces where SentencePiece's words begin: before "▁" after another character.
std::vector<Span> cut_at_words(std::string_view text, const std::vector<Span>& pieces) {
  std::vector<Span> words;
  for (const Span& piece : pieces) {
    size_t begin = piece.begin;
    size_t after_mark = piece.begin;  // the end of the last mark
    for (size_t at = text.find(word_mark, piece.begin); at < piece.end; at = text.find(word_mark, after_mark)) {
      if (at > after_mark) {
        words.push_back({begin, at});
        begin = at;
      }
      after_mark = at + word_mark.size();
    }
    words.push_back({begin, piece.end});
  }
  return words;
}

}  // namespace

// What a Tokenizer computes with. Never moved: models refer to the parts.
struct Tokenizer::Tables {
  Tables(TokenizerParts given, const std::string& origin)
      : parts(std::move(given)),
        normalizer(Normalizer::from_json(parts.normalizer, origin + ": normalizer")),
        pre_tokenizer(PreTokenizer::from_json(parts.pre_tokenizer, origin + ": pre_tokenizer")),
        ids(parts, /*of_model=*/false),
        model_ids(parts, /*of_model=*/true),
        model_sees_bytes(pre_tokenizer.byte_level() && parts.model.kind == ModelParts::Kind::bpe &&
                         !parts.model.byte_fallback && parts.model.subword_prefix.empty() &&
                         parts.model.word_suffix.empty()),
        model(model_of(parts, model_ids, ids, model_sees_bytes, origin)),
        decoder(Decoder::from_json(parts.decoder, origin + ": decoder")),
        post_processor(PostProcessor::from_json(parts.post_processor, ids, origin + ": post_processor")),
        special(parts.tokens.size()) {
    const auto* bpe = std::get_if<Bpe>(&model);
    words_are_apart = bpe != nullptr && bpe->words_are_apart();
    for (const AddedToken& token : parts.added) {
      if (token.special) special[static_cast<size_t>(token.id)] = 1;
      if (!token.normalized) {
        raw_finder.add(token.content, token);
        continue;
      }
      std::string key = parts.sentencepiece ? token.content : normalizer.apply(token.content);
      if (key.empty()) continue;
      if (key != token.content) decoded_as.emplace(token.id, key);
      normalized_finder.add(std::move(key), token);
    }
  }
  Tables(const Tables&) = delete;
  Tables& operator=(const Tables&) = delete;

  TokenizerParts parts;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  TokenIds ids;        // of all tokens
  TokenIds model_ids;  // of the model's
  bool model_sees_bytes;
  Model model;
  Decoder decoder;
  PostProcessor post_processor;
  std::vector<char> special;  // by id
  bool words_are_apart = false;
  std::unordered_map<int32_t, std::string> decoded_as;  // normalized tokens: `tokenizers` gives them back normalized
  AddedTokenFinder raw_finder;                          // tokens looked for in the text as it is
  AddedTokenFinder normalized_finder;                   // tokens looked for after normalization

  void encode_piece(std::string_view piece, std::vector<int32_t>& ids_out) const;
  void encode_ordinary(std::string text, bool at_start, std::vector<int32_t>& ids_out) const;
  void encode_text(std::string_view text, bool parse_special, std::vector<int32_t>& ids_out) const;
  // Whether normalizing drops the first character of `text`: what is left does not begin at the start then, as
  // `tokenizers` counts.
  bool drops_first(std::string_view text) const {
    const std::string first(text.substr(0, utf8_step(text, 0).length));
    return normalizer.apply(first + "x") == normalizer.apply("x");
  }
  void check_id(int32_t id) const;
  // The token that decoding sees; "" when it is left out.
  std::string_view decoded_token(int32_t id, bool skip_special_tokens) const;
};

void Tokenizer::Tables::encode_piece(std::string_view piece, std::vector<int32_t>& ids_out) const {
  std::string written;
  if (pre_tokenizer.byte_level() && !model_sees_bytes) {
    written = byte_characters(piece);
    piece = written;
  }
  std::visit([&](const auto& kind) { kind.encode(piece, ids_out); }, model);
}

// What lies between added tokens, normalized.
void Tokenizer::Tables::encode_ordinary(std::string text, bool at_start, std::vector<int32_t>& ids_out) const {
  std::vector<Span> pieces =
      parts.sentencepiece ? std::vector<Span>{{0, text.size()}} : pre_tokenizer.apply(text, at_start);
  if (words_are_apart) pieces = cut_at_words(text, pieces);
  // Words come back: in a long text each is encoded once. `known` gives its place in ids_out.
  constexpr size_t worth_a_cache = 64;
  const bool cached = pieces.size() >= worth_a_cache;
  std::unordered_map<std::string_view, std::pair<size_t, size_t>> known;
  for (const Span& span : pieces) {
    const std::string_view piece = std::string_view(text).substr(span.begin, span.end - span.begin);
    if (!cached || piece.size() < 2) {
      encode_piece(piece, ids_out);
      continue;
    }
    const auto [found, is_new] = known.try_emplace(piece, ids_out.size(), 0);
    if (is_new) {
      encode_piece(piece, ids_out);
      found->second.second = ids_out.size();
    } else {
      const auto [begin, end] = found->second;
      for (size_t i = begin; i < end; ++i) ids_out.push_back(ids_out[i]);
    }
  }
}

void Tokenizer::Tables::encode_text(std::string_view text, bool parse_special, std::vector<int32_t>& ids_out) const {
  for (const AddedTokenFinder::Part& raw : raw_finder.cut(text, parse_special)) {
    if (raw.id >= 0) {
      ids_out.push_back(raw.id);
      continue;
    }
    bool at_start = raw.text.data() == text.data();
    const std::string normal =
        parts.sentencepiece ? parts.sentencepiece->apply(raw.text, at_start) : normalizer.apply(raw.text);
    at_start = at_start && !drops_first(raw.text);
    for (const AddedTokenFinder::Part& part : normalized_finder.cut(normal, parse_special)) {
      if (part.id >= 0) {
        ids_out.push_back(part.id);
      } else {
        encode_ordinary(std::string(part.text), at_start, ids_out);
      }
      at_start = false;
    }
  }
}

void Tokenizer::Tables::check_id(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= parts.tokens.size()) {
    fail("The token id {} is out of range [0, {}).", id, parts.tokens.size());
  }
}

std::string_view Tokenizer::Tables::decoded_token(int32_t id, bool skip_special_tokens) const {
  check_id(id);
  const auto at = static_cast<size_t>(id);
  if (skip_special_tokens && special[at] != 0) return {};
  const auto found = decoded_as.find(id);
  return found == decoded_as.end() ? parts.tokens[at] : found->second;
}

Tokenizer Tokenizer::of(TokenizerParts parts, const std::string& origin) {
  return Tokenizer(std::make_shared<const Tables>(std::move(parts), origin));
}

Tokenizer Tokenizer::from_json(const Json& json, const std::string& origin) {
  return from_json_text(json.dump(-1, ' ', false, Json::error_handler_t::replace), origin);
}

Tokenizer Tokenizer::from_json_text(std::string_view text, const std::string& origin) {
  return of(parts_of_json(text, origin), origin);
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  return path.extension() == ".model" ? from_sentencepiece(bytes, path.string()) : from_json_text(bytes, path.string());
}

Tokenizer Tokenizer::from_sentencepiece(std::string_view bytes, const std::string& origin) {
  return of(parts_of_sentencepiece(bytes, origin), origin);
}

Tokenizer Tokenizer::from_vocabulary(const Vocabulary& vocabulary, const std::string& origin) {
  return of(parts_of(vocabulary, origin), origin);
}

Json Tokenizer::to_json() const { return json_of(tables_->parts); }

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool parse_special) const {
  std::vector<int32_t> ids;
  if (is_utf8(text)) {
    tables_->encode_text(text, parse_special, ids);
  } else {
    tables_->encode_text(repaired_utf8(text), parse_special, ids);
  }
  return ids;
}

std::vector<int32_t> Tokenizer::with_special_tokens(std::vector<int32_t> ids) const {
  return tables_->post_processor.apply(std::move(ids));
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  StreamDecoder stream(*this, skip_special_tokens);
  std::string text;
  for (const int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  const int32_t id = tables_->ids.find(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

std::string_view Tokenizer::token(int32_t id) const {
  tables_->check_id(id);
  return tables_->parts.tokens[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < size() && tables_->special[static_cast<size_t>(id)] != 0;
}

int64_t Tokenizer::size() const { return static_cast<int64_t>(tables_->parts.tokens.size()); }

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens), state_(tokenizer.tables_->decoder.start()) {}

std::string StreamDecoder::push(int32_t id) {
  const std::string_view token = tokenizer_.tables_->decoded_token(id, skip_special_tokens_);
  std::string text;
  if (!token.empty()) tokenizer_.tables_->decoder.push(state_, token, text);
  return text;
}

std::string StreamDecoder::finish() {
  const Decoder& decoder = tokenizer_.tables_->decoder;
  std::string text;
  decoder.finish(state_, text);
  state_ = decoder.start();
  return text;
}

}  // namespace backburn::text
