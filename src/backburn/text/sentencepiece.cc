#include "backburn/text/sentencepiece.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "backburn/base/error.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

const char* const space_symbol = "\u2581";
constexpr size_t longest_token = 1024;

// One message of a protobuf (the wire format of "Protocol Buffers", encoding.md), read field by field.
class Message {
 public:
  Message(std::string_view bytes, const std::string& origin) : bytes_(bytes), origin_(origin) {}

  struct Field {
    uint64_t number = 0;
    uint64_t value = 0;        // of a varint or a fixed-size number
    std::string_view bytes{};  // of a string or message
    bool flag() const { return value != 0; }
  };

  // The next field, or nothing at the end.
  std::optional<Field> next() {
    if (bytes_.empty()) return std::nullopt;
    const uint64_t key = varint();
    Field field{.number = key >> 3};
    switch (key & 7) {
      case 0: field.value = varint(); break;
      case 1: field.value = fixed(8); break;
      case 2: field.bytes = take(varint()); break;
      case 5: field.value = fixed(4); break;
      default: fail_here();
    }
    return field;
  }

 private:
  [[noreturn]] void fail_here() const { fail("{}: not a SentencePiece model: the protobuf is damaged.", origin_); }

  std::string_view take(uint64_t count) {
    if (count > bytes_.size()) fail_here();
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  uint64_t fixed(uint64_t count) {
    uint64_t value = 0;
    const std::string_view taken = take(count);
    for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(taken[i]);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail_here();
  }

  std::string_view bytes_;
  const std::string& origin_;
};

// Numbers of fields and values in sentencepiece_model.proto.
enum PieceType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
enum ModelType { unigram = 1, bpe = 2 };

struct Piece {
  std::string text;
  double score = 0;
  uint64_t type = normal;
};

Piece piece_of(std::string_view bytes, const std::string& origin) {
  Piece piece;
  Message message(bytes, origin);
  while (const auto field = message.next()) {
    if (field->number == 1) piece.text = field->bytes;
    if (field->number == 2) piece.score = double{std::bit_cast<float>(static_cast<uint32_t>(field->value))};
    if (field->number == 3) piece.type = field->value;
  }
  return piece;
}

struct Trainer {
  uint64_t model_type = unigram;
  bool space_as_suffix = false;
  bool byte_fallback = false;
};

Trainer trainer_of(std::string_view bytes, const std::string& origin) {
  Trainer trainer;
  Message message(bytes, origin);
  while (const auto field = message.next()) {
    if (field->number == 3) trainer.model_type = field->value;
    if (field->number == 24) trainer.space_as_suffix = field->flag();
    if (field->number == 35) trainer.byte_fallback = field->flag();
  }
  return trainer;
}

struct NormalizerSpec {
  std::string_view charsmap{};
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

NormalizerSpec normalizer_of(std::string_view bytes, const std::string& origin) {
  NormalizerSpec spec;
  Message message(bytes, origin);
  while (const auto field = message.next()) {
    if (field->number == 2) spec.charsmap = field->bytes;
    if (field->number == 3) spec.add_dummy_prefix = field->flag();
    if (field->number == 4) spec.remove_extra_whitespaces = field->flag();
    if (field->number == 5) spec.escape_whitespaces = field->flag();
  }
  return spec;
}

void take_piece(const Piece& piece, int32_t id, bool is_unigram, const std::string& origin, TokenizerParts& parts) {
  const std::string where = fmt::format("{}: piece {}", origin, id);
  if (piece.text.empty()) fail("{} is empty.", where);
  if (piece.type < normal || piece.type > byte) fail("{} has type {}; expected 1 to 6.", where, piece.type);
  if (!std::isfinite(piece.score)) fail("{}: the score is not a number.", where);
  parts.put(piece.text, id, piece.type == normal || piece.type == user_defined, where);
  if (piece.type == unknown) {
    if (parts.model.unknown >= 0) fail("{} is the second unknown symbol.", where);
    parts.model.unknown = id;
  }
  if (piece.type == unknown || piece.type == control) {
    parts.added.push_back({.id = id, .content = piece.text, .special = true});
  }
  if (piece.type == user_defined && is_unigram) {
    parts.model.always.resize(static_cast<size_t>(id) + 1);
    parts.model.always.back() = 1;
  } else if (piece.type == user_defined) {
    // Found after normalization, which leaves it alone.
    parts.added.push_back({.id = id, .content = piece.text, .normalized = true});
  }
}

// SentencePiece's BPE merges any neighbours that together are a token, the best score first; so every way to cut a
// token in two tokens is a merge, of the rank of its score.
void merges_from_scores(const std::vector<double>& scores, TokenizerParts& parts) {
  const TokenIds ids(parts, /*of_model=*/true);
  std::vector<size_t> order(parts.tokens.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  int32_t rank = -1;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || scores[order[i]] != scores[order[i - 1]]) ++rank;
    const std::string& token = parts.tokens[order[i]];
    if (!parts.in_model[order[i]] || ids.find(token) != static_cast<int32_t>(order[i])) continue;
    for (size_t at = 0; at < token.size();) {
      at += utf8_step(token, at).length;
      if (at == token.size()) break;
      std::string left = token.substr(0, at);
      std::string right = token.substr(at);
      if (ids.find(left) < 0 || ids.find(right) < 0) continue;
      parts.model.merges.emplace_back(std::move(left), std::move(right));
      parts.model.merge_ranks.push_back(rank);
    }
  }
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t three = 0;
    for (size_t j = 0; j < 3; ++j)
      three = three << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) text.push_back(i + j <= bytes.size() ? digits[three >> (18 - 6 * j) & 63] : '=');
  }
  return text;
}

Json replace_step(Json pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", std::move(pattern)}, {"content", content}};
}

const char* scheme_name(Prefix prefix) {
  switch (prefix) {
    case Prefix::never: return "never";
    case Prefix::first: return "first";
    case Prefix::always: return "always";
  }
  return "first";
}

}  // namespace

void finish_sentencepiece(TokenizerParts& parts, std::vector<double> scores, SentencePieceNormalizer normalizer,
                          std::string_view charsmap, const std::string& origin) {
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.tokens[id].size() > longest_token)
      fail("{}: token {} has more than {} bytes.", origin, id, longest_token);
  }
  const bool is_bpe = parts.model.kind == ModelParts::Kind::bpe;
  parts.model.fuse_unknown = true;
  if (is_bpe) {
    merges_from_scores(scores, parts);
  } else {
    parts.model.scores = std::move(scores);
    parts.model.single_precision = true;
    if (!parts.model.always.empty()) parts.model.always.resize(parts.tokens.size());
  }

  Json steps = Json::array();
  if (!charsmap.empty()) steps.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", base64(charsmap)}});
  if (normalizer.remove_extra_whitespaces) {
    steps.push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
    steps.push_back(replace_step({{"Regex", " {2,}"}}, " "));
  }
  if (!steps.empty()) parts.normalizer = {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
  parts.pre_tokenizer = {{"type", "Metaspace"},
                         {"replacement", space_symbol},
                         {"prepend_scheme", scheme_name(normalizer.prefix)},
                         {"split", !is_bpe}};
  Json decoders = Json::array();
  decoders.push_back(replace_step({{"String", space_symbol}}, " "));
  decoders.push_back({{"type", "ByteFallback"}});
  decoders.push_back({{"type", "Fuse"}});
  if (normalizer.prefix != Prefix::never) {
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  parts.decoder = {{"type", "Sequence"}, {"decoders", std::move(decoders)}};
  parts.sentencepiece = std::move(normalizer);
}

TokenizerParts parts_of_sentencepiece(std::string_view bytes, const std::string& origin) {
  std::vector<Piece> pieces;
  Trainer trainer;
  NormalizerSpec spec;
  Message message(bytes, origin);
  while (const auto field = message.next()) {
    if (field->number == 1) pieces.push_back(piece_of(field->bytes, origin));
    if (field->number == 2) trainer = trainer_of(field->bytes, origin);
    if (field->number == 3) spec = normalizer_of(field->bytes, origin);
  }
  if (pieces.empty()) fail("{}: not a SentencePiece model: it has no pieces.", origin);
  if (trainer.model_type != unigram && trainer.model_type != bpe) {
    fail("{}: SentencePiece model type {} is not supported; expected 1 (unigram) or 2 (bpe).", origin,
         trainer.model_type);
  }
  if (trainer.space_as_suffix || !spec.escape_whitespaces) {
    fail("{}: treat_whitespace_as_suffix and models without escape_whitespaces are not supported.", origin);
  }

  TokenizerParts parts;
  const bool is_unigram = trainer.model_type == unigram;
  parts.model.kind = is_unigram ? ModelParts::Kind::unigram : ModelParts::Kind::bpe;
  parts.model.byte_fallback = trainer.byte_fallback;
  SentencePieceNormalizer normalizer{.prefix = spec.add_dummy_prefix ? Prefix::first : Prefix::never,
                                     .remove_extra_whitespaces = spec.remove_extra_whitespaces};
  if (!spec.charsmap.empty()) normalizer.rules = Charsmap::parse(spec.charsmap, origin + ": precompiled_charsmap");
  std::vector<double> scores;
  for (size_t id = 0; id < pieces.size(); ++id) {
    take_piece(pieces[id], static_cast<int32_t>(id), is_unigram, origin, parts);
    if (pieces[id].type == user_defined) normalizer.kept.add(pieces[id].text, 0);
    scores.push_back(pieces[id].score);
  }
  finish_sentencepiece(parts, std::move(scores), std::move(normalizer), spec.charsmap, origin);
  return parts;
}

}  // namespace backburn::text
