#include "backburn/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/text/bpe.h"
#include "backburn/text/json_fields.h"
#include "backburn/text/pre_tokenizer.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

// GPT-2's alphabet: each byte is written as one character; those that don't print are moved to U+0100 and up.
char32_t byte_character(unsigned byte) {
  auto prints = [](unsigned b) { return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE; };
  if (prints(byte)) return byte;
  char32_t moved = 0x100;
  for (unsigned b = 0; b < byte; ++b) moved += !prints(b);
  return moved;
}

constexpr size_t alphabet_end = 0x144;

// character → byte, −1 for what is not in the alphabet.
std::array<int16_t, alphabet_end> character_bytes() {
  std::array<int16_t, alphabet_end> bytes;
  bytes.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) bytes[byte_character(byte)] = static_cast<int16_t>(byte);
  return bytes;
}

// A token's bytes: its characters are bytes when all are of the alphabet, else it stands for itself.
std::string bytes_of_token(std::string_view token, const std::array<int16_t, alphabet_end>& bytes) {
  std::string result;
  for (size_t at = 0; at < token.size();) {
    const Utf8Step step = utf8_step(token, at);
    if (step.code_point >= alphabet_end || bytes[step.code_point] < 0) return std::string(token);
    result.push_back(static_cast<char>(static_cast<unsigned char>(bytes[step.code_point])));
    at += step.length;
  }
  return result;
}

bool is_word_character(char32_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         (c >= 0x80 && !is_white_space(c));
}

char32_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return utf8_step(text, at).code_point;
}

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;
  bool lstrip = false;
  bool rstrip = false;
  bool single_word = false;
};

// Finds added tokens in a text: leftmost first, the longest of those that begin at one place.
class AddedTokenFinder {
 public:
  void add(std::string key, size_t index) {
    auto& list = by_first_byte_[static_cast<unsigned char>(key[0])];
    list.push_back({std::move(key), index});
    std::sort(list.begin(), list.end(), [](const Entry& a, const Entry& b) { return a.key.size() > b.key.size(); });
    any_ = true;
  }
  bool any() const { return any_; }

  struct Match {
    size_t begin;
    size_t end;
    size_t index;
  };
  std::vector<Match> find_all(std::string_view text) const {
    std::vector<Match> matches;
    for (size_t at = 0; at < text.size();) {
      const Entry* best = nullptr;
      for (const Entry& entry : by_first_byte_[static_cast<unsigned char>(text[at])]) {
        if (text.substr(at).starts_with(entry.key)) {
          best = &entry;
          break;
        }
      }
      if (best != nullptr) {
        matches.push_back({at, at + best->key.size(), best->index});
        at += best->key.size();
      } else {
        ++at;
      }
    }
    return matches;
  }

 private:
  struct Entry {
    std::string key;
    size_t index;
  };
  std::array<std::vector<Entry>, 256> by_first_byte_;
  bool any_ = false;
};

// What of the file says nothing about ids and is handed on as it was.
struct Settings {
  Json normalizer;
  Json pre_tokenizer;
  Json post_processor;
  Json decoder;
};

bool normalizer_is_nfc(const Json& json, const std::string& where, int depth = 0) {
  if (json.is_null()) return false;
  if (depth > 8) fail("{}: Sequences inside Sequences, more than 8 deep.", where);
  const std::string type = string_field(json, "type", where);
  if (type == "NFC") return true;
  if (type != "Sequence") {
    fail("{}: normalizer \"{}\" is not supported; expected null, NFC or a Sequence of these.", where, type);
  }
  bool is_nfc = false;
  for (const Json& step : list_field(json, "normalizers", where)) {
    is_nfc = normalizer_is_nfc(step, where + ".normalizers", depth + 1) || is_nfc;
  }
  return is_nfc;
}

Json byte_level_decoder() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
}

}  // namespace

struct Tokenizer::Tables {
  Tables(Settings given, const std::string& origin)
      : settings(std::move(given)),
        pre_tokenizer(PreTokenizer::from_json(settings.pre_tokenizer, origin + ": pre_tokenizer")),
        to_nfc(normalizer_is_nfc(settings.normalizer, origin + ": normalizer")),
        merges(0) {}

  Settings settings;
  PreTokenizer pre_tokenizer;
  bool to_nfc = false;
  bool ignore_merges = false;
  bool fuse_unknown = false;
  int32_t unknown = -1;  // −1: bytes that no token has are left out

  std::vector<std::string> tokens;                    // by id; "" where no token is
  std::vector<std::string> bytes;                     // by id
  std::vector<char> in_model;                         // by id: a token of the model's vocabulary, not only an added one
  std::vector<char> special;                          // by id
  std::unordered_map<std::string_view, int32_t> ids;  // all tokens as written
  std::unordered_map<std::string_view, int32_t> model_bytes;  // model tokens by their bytes, for ignore_merges
  std::array<int32_t, 256> byte_ids{};                        // −1: no token is this byte
  Merges merges;
  std::vector<std::pair<std::string, std::string>> merge_list;
  std::vector<AddedToken> added;
  AddedTokenFinder raw_finder;         // tokens looked for in the text as it is
  AddedTokenFinder normalized_finder;  // tokens looked for after normalization

  std::string normalized(std::string_view text) const { return to_nfc ? nfc(text) : std::string(text); }

  // Fills what follows from tokens, in_model, merge_list and added.
  void finish(const std::string& origin);
  void encode_piece(std::string_view piece, std::vector<int32_t>& ids_out, std::vector<int32_t>& scratch) const;
  void encode_text(std::string_view text, bool parse_special, std::vector<int32_t>& ids_out) const;
  void encode_ordinary(std::string text, std::vector<int32_t>& ids_out) const;
  template <typename Ordinary>
  void cut_at_added(std::string_view text, const AddedTokenFinder& finder, bool parse_special,
                    std::vector<int32_t>& ids_out, const Ordinary& ordinary) const;
};

void Tokenizer::Tables::finish(const std::string& origin) {
  const auto alphabet = character_bytes();
  bytes.resize(tokens.size());
  special.assign(tokens.size(), 0);
  ids.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (!is_utf8(tokens[id])) fail("{}: the token of id {} is not UTF-8.", origin, id);
    bytes[id] = bytes_of_token(tokens[id], alphabet);
    if (!tokens[id].empty()) ids.emplace(tokens[id], static_cast<int32_t>(id));
  }
  byte_ids.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string character;
    append_utf8(character, byte_character(byte));
    const auto found = ids.find(character);
    if (found != ids.end() && in_model[static_cast<size_t>(found->second)]) byte_ids[byte] = found->second;
  }
  if (ignore_merges) {
    for (size_t id = 0; id < tokens.size(); ++id) {
      if (in_model[id] && !tokens[id].empty()) model_bytes.emplace(bytes[id], static_cast<int32_t>(id));
    }
  }

  merges = Merges(merge_list.size());
  auto model_id = [&](std::string_view token, size_t rank) {
    const auto found = ids.find(token);
    if (found == ids.end() || !in_model[static_cast<size_t>(found->second)]) {
      fail("{}: merge {} (\"{} {}\") names the token \"{}\", which the vocabulary lacks.", origin, rank,
           merge_list[rank].first, merge_list[rank].second, token);
    }
    return found->second;
  };
  for (size_t rank = 0; rank < merge_list.size(); ++rank) {
    const auto& [left, right] = merge_list[rank];
    const int32_t left_id = model_id(left, rank);
    const int32_t right_id = model_id(right, rank);
    merges.add(left_id, right_id, static_cast<int32_t>(rank), model_id(left + right, rank));
  }

  for (size_t i = 0; i < added.size(); ++i) {
    const AddedToken& token = added[i];
    if (token.special) special[static_cast<size_t>(token.id)] = 1;
    if (token.normalized) {
      std::string key = normalized(token.content);
      if (!key.empty()) normalized_finder.add(std::move(key), i);
    } else {
      raw_finder.add(token.content, i);
    }
  }
}

void Tokenizer::Tables::encode_piece(std::string_view piece, std::vector<int32_t>& ids_out,
                                     std::vector<int32_t>& scratch) const {
  if (ignore_merges) {
    const auto found = model_bytes.find(piece);
    if (found != model_bytes.end()) {
      ids_out.push_back(found->second);
      return;
    }
  }
  scratch.clear();
  bool after_unknown = false;
  for (char c : piece) {
    const int32_t id = byte_ids[static_cast<unsigned char>(c)];
    if (id >= 0) {
      scratch.push_back(id);
      after_unknown = false;
    } else if (unknown >= 0) {
      if (!(fuse_unknown && after_unknown)) scratch.push_back(unknown);
      after_unknown = true;
    }
  }
  const size_t count = merges.apply(scratch);
  ids_out.insert(ids_out.end(), scratch.begin(), scratch.begin() + static_cast<std::ptrdiff_t>(count));
}

void Tokenizer::Tables::encode_ordinary(std::string text, std::vector<int32_t>& ids_out) const {
  const std::vector<Span> pieces = pre_tokenizer.apply(text);
  std::vector<int32_t> scratch;
  // Words come back: in a long text each is merged once. `known` gives its place in ids_out.
  constexpr size_t worth_a_cache = 64;
  const bool cached = pieces.size() >= worth_a_cache;
  std::unordered_map<std::string_view, std::pair<size_t, size_t>> known;
  for (const Span& span : pieces) {
    const std::string_view piece = std::string_view(text).substr(span.begin, span.end - span.begin);
    if (!cached || piece.size() < 2) {
      encode_piece(piece, ids_out, scratch);
      continue;
    }
    const auto [found, is_new] = known.try_emplace(piece, ids_out.size(), 0);
    if (is_new) {
      encode_piece(piece, ids_out, scratch);
      found->second.second = ids_out.size();
    } else {
      const auto [begin, end] = found->second;
      for (size_t i = begin; i < end; ++i) ids_out.push_back(ids_out[i]);
    }
  }
}

// Gives what lies between added tokens to `ordinary`, and their ids to ids_out.
template <typename Ordinary>
void Tokenizer::Tables::cut_at_added(std::string_view text, const AddedTokenFinder& finder, bool parse_special,
                                     std::vector<int32_t>& ids_out, const Ordinary& ordinary) const {
  size_t done = 0;
  if (finder.any()) {
    for (auto [begin, end, index] : finder.find_all(text)) {
      const AddedToken& token = added[index];
      if (begin < done) continue;  // taken by the white space of the token before
      if (token.special && !parse_special) continue;
      if (token.single_word) {
        const bool word_before = begin > 0 && is_word_character(last_character(text.substr(0, begin)));
        const bool word_after = end < text.size() && is_word_character(utf8_step(text, end).code_point);
        if (word_before || word_after) continue;
      }
      if (token.lstrip) {
        while (begin > done) {
          const char32_t before = last_character(text.substr(0, begin));
          if (!is_white_space(before)) break;
          std::string character;
          append_utf8(character, before);
          begin -= character.size();
        }
      }
      if (token.rstrip) {
        while (end < text.size()) {
          const Utf8Step step = utf8_step(text, end);
          if (!is_white_space(step.code_point)) break;
          end += step.length;
        }
      }
      if (done < begin) ordinary(text.substr(done, begin - done));
      ids_out.push_back(token.id);
      done = end;
    }
  }
  if (done < text.size()) ordinary(text.substr(done));
}

void Tokenizer::Tables::encode_text(std::string_view text, bool parse_special, std::vector<int32_t>& ids_out) const {
  cut_at_added(text, raw_finder, parse_special, ids_out, [&](std::string_view part) {
    const std::string normal = normalized(part);
    cut_at_added(normal, normalized_finder, parse_special, ids_out,
                 [&](std::string_view ordinary) { encode_ordinary(std::string(ordinary), ids_out); });
  });
}

namespace {

// `value` as an id below `limit`.
int32_t id_field(const Json& value, size_t limit, const std::string& where) {
  if (!value.is_number_integer()) fail("{}: expected an id, a whole number, found {}.", where, value.type_name());
  const bool in_range = value.is_number_unsigned()
                            ? value.get<uint64_t>() < limit
                            : value.get<int64_t>() >= 0 && static_cast<uint64_t>(value.get<int64_t>()) < limit;
  if (!in_range) fail("{}: the id {} is out of range [0, {}).", where, value.dump(), limit);
  return value.get<int32_t>();
}

void must_be_absent(const Json& model, const char* key, const std::string& where) {
  const auto found = model.find(key);
  if (found == model.end() || found->is_null()) return;
  const bool harmless = (found->is_string() && found->get_ref<const std::string&>().empty()) ||
                        (found->is_boolean() && !found->get<bool>()) ||
                        (found->is_number() && found->get<double>() == 0.0);
  if (!harmless) fail("{}.{}: {} is not supported by this byte-level tokenizer.", where, key, found->dump());
}

std::pair<std::string, std::string> merge_of(std::string_view line, size_t rank, const std::string& where) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
      line.find(' ', space + 1) != std::string_view::npos) {
    fail("{}: merge {} is \"{}\"; expected two tokens with one space between.", where, rank,
         repaired_utf8(line.substr(0, 80)));
  }
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

}  // namespace

Tokenizer Tokenizer::from_json(const Json& json, const std::string& origin) {
  Entries vocabulary;
  if (json.is_object() && json.contains("model")) {
    const Json& model = json["model"];
    if (model.is_object() && model.contains("vocab") && model["vocab"].is_object()) {
      for (const auto& [token, id] : model["vocab"].items()) vocabulary.emplace_back(token, id);
    }
  }
  return load(json, vocabulary, origin);
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  return from_json_text(read_file(path), path.string());
}

Tokenizer Tokenizer::from_json_text(std::string_view text, const std::string& origin) {
  // The sorted kind of JSON, whose objects are made in O(n log n).
  nlohmann::json sorted;
  try {
    const auto check_depth = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      if (depth > 64) fail("{}: JSON nested deeper than 64 levels.", origin);
      return true;
    };
    sorted = nlohmann::json::parse(text, check_depth);
  } catch (const nlohmann::json::exception&) {
    return from_json(parse_json(text, origin), origin);  // throws, with line and column
  }
  Entries vocabulary;
  if (sorted.is_object() && sorted.contains("model") && sorted["model"].is_object()) {
    nlohmann::json& model = sorted["model"];
    if (model.contains("vocab") && model["vocab"].is_object()) {
      vocabulary.reserve(model["vocab"].size());
      for (const auto& [token, id] : model["vocab"].items()) vocabulary.emplace_back(token, Json(id));
      model["vocab"] = nlohmann::json::object();
    }
  }
  return load(Json(sorted), vocabulary, origin);
}

Tokenizer Tokenizer::load(const Json& json, const Entries& vocabulary, const std::string& origin) {
  if (!json.is_object()) fail("{}: not a tokenizer.json: expected an object, found {}.", origin, json.type_name());
  const std::string model_place = origin + ": model";
  const Json& model = field(json, "model", origin);
  if (!model.is_object()) fail("{}: expected an object, found {}.", model_place, model.type_name());
  // Old files leave "type" out.
  const std::string type = model.contains("type") ? string_field(model, "type", model_place) : "BPE";
  if (type != "BPE") fail("{}: type \"{}\" is not supported; expected BPE.", model_place, type);
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    must_be_absent(model, key, model_place);
  }

  auto optional = [&](const char* key) {
    const auto found = json.find(key);
    return found == json.end() ? Json() : *found;
  };
  Settings settings{optional("normalizer"), optional("pre_tokenizer"), optional("post_processor"), optional("decoder")};
  if (settings.pre_tokenizer.is_null()) {
    fail("{}: no pre_tokenizer, and only byte-level tokenizers can be used.", origin);
  }
  auto tables = std::make_shared<Tables>(std::move(settings), origin);
  tables->ignore_merges = bool_field(model, "ignore_merges", false, model_place);
  tables->fuse_unknown = bool_field(model, "fuse_unk", false, model_place);

  const Json& vocabulary_object = field(model, "vocab", model_place);
  if (!vocabulary_object.is_object()) {
    fail("{}.vocab: expected an object, found {}.", model_place, vocabulary_object.type_name());
  }
  const Json added_list = json.contains("added_tokens") && !json["added_tokens"].is_null()
                              ? list_field(json, "added_tokens", origin)
                              : Json::array();
  // Files have few holes between ids; a wild id must not cost gigabytes.
  const size_t limit = 4 * (vocabulary.size() + added_list.size()) + 1024;
  auto put = [&](const std::string& token, int32_t id, bool of_model, const std::string& where) {
    const auto at = static_cast<size_t>(id);
    if (at >= tables->tokens.size()) {
      tables->tokens.resize(at + 1);
      tables->in_model.resize(at + 1);
    }
    if (!tables->tokens[at].empty() && tables->tokens[at] != token) {
      fail("{}: the id {} is given to \"{}\" and to \"{}\".", where, id, tables->tokens[at], token);
    }
    tables->tokens[at] = token;
    if (of_model) tables->in_model[at] = 1;
  };
  for (const auto& [token, id] : vocabulary) {
    if (token.empty()) fail("{}.vocab: a token is empty.", model_place);
    const std::string where = model_place + ".vocab";
    put(token, id_field(id, limit, where), true, where);
  }

  const Json& merges = list_field(model, "merges", model_place);
  tables->merge_list.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Json& merge = merges[rank];
    if (merge.is_string()) {
      tables->merge_list.push_back(merge_of(merge.get_ref<const std::string&>(), rank, model_place + ".merges"));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      tables->merge_list.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      fail("{}.merges: merge {} is {}; expected \"left right\" or [\"left\", \"right\"].", model_place, rank,
           merge.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80));
    }
  }

  std::unordered_map<std::string, int32_t> model_ids;
  for (size_t id = 0; id < tables->tokens.size(); ++id) {
    if (tables->tokens[id].empty()) continue;
    const auto [other, is_new] = model_ids.emplace(tables->tokens[id], static_cast<int32_t>(id));
    if (!is_new) fail("{}.vocab: \"{}\" is given twice.", model_place, tables->tokens[id]);
  }
  for (size_t i = 0; i < added_list.size(); ++i) {
    const std::string where = fmt::format("{}: added_tokens[{}]", origin, i);
    const Json& entry = added_list[i];
    AddedToken token;
    token.content = string_field(entry, "content", where);
    if (token.content.empty()) fail("{}: the content is empty.", where);
    if (!is_utf8(token.content)) fail("{}: the content is not UTF-8.", where);
    token.id = id_field(field(entry, "id", where), limit, where + ".id");
    token.special = bool_field(entry, "special", false, where);
    token.normalized = bool_field(entry, "normalized", !token.special, where);
    token.lstrip = bool_field(entry, "lstrip", false, where);
    token.rstrip = bool_field(entry, "rstrip", false, where);
    token.single_word = bool_field(entry, "single_word", false, where);
    const auto [known, is_new] = model_ids.emplace(token.content, token.id);
    if (!is_new && known->second != token.id) {
      fail("{}: \"{}\" has the id {} here and {} before.", where, token.content, token.id, known->second);
    }
    put(token.content, token.id, false, where);
    const bool again = std::any_of(tables->added.begin(), tables->added.end(),
                                   [&](const AddedToken& other) { return other.id == token.id; });
    if (again) fail("{}: \"{}\" is given twice.", where, token.content);
    tables->added.push_back(std::move(token));
  }

  const auto unknown = model.find("unk_token");
  if (unknown != model.end() && !unknown->is_null()) {
    const std::string token = string_field(model, "unk_token", model_place);
    const auto known = model_ids.find(token);
    if (known == model_ids.end()) {
      fail("{}.unk_token: \"{}\" is not a token of the vocabulary.", model_place, token);
    }
    tables->unknown = known->second;
  }
  if (tables->tokens.empty()) fail("{}.vocab: no tokens.", model_place);
  tables->finish(origin);
  return Tokenizer(std::move(tables));
}

Tokenizer Tokenizer::from_vocabulary(const Vocabulary& vocabulary, const std::string& origin) {
  enum TokenType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  const size_t count = vocabulary.tokens.size();
  if (count == 0) fail("{}: tokenizer.ggml.tokens is empty.", origin);
  if (count > (size_t{1} << 24)) fail("{}: tokenizer.ggml.tokens has {} entries, more than 2^24.", origin, count);
  if (!vocabulary.token_types.empty() && vocabulary.token_types.size() != count) {
    fail("{}: tokenizer.ggml.token_type has {} entries for {} tokens.", origin, vocabulary.token_types.size(), count);
  }
  NamedPreTokenizer named = named_pre_tokenizer(vocabulary.pre, origin);
  Settings settings{std::move(named.normalizer), std::move(named.pre_tokenizer), nullptr, byte_level_decoder()};
  auto tables = std::make_shared<Tables>(std::move(settings), origin);
  tables->ignore_merges = named.ignore_merges;
  tables->tokens.resize(count);
  tables->in_model.assign(count, 0);
  std::unordered_map<std::string_view, size_t> seen;
  seen.reserve(count);
  for (size_t id = 0; id < count; ++id) {
    const std::string& token = vocabulary.tokens[id];
    const int32_t type = vocabulary.token_types.empty() ? normal : vocabulary.token_types[id];
    if (type < normal || type > byte) {
      fail("{}: tokenizer.ggml.token_type[{}] is {}; expected 1 to 6.", origin, id, type);
    }
    if (type == byte) {
      fail("{}: token {} is a byte token of a SentencePiece tokenizer; only byte-level BPE can be used.", origin, id);
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
    tables->tokens[id] = token;
    tables->in_model[id] = 1;
    if (type == control || type == unknown || type == user_defined) {
      tables->added.push_back({.id = static_cast<int32_t>(id), .content = token, .special = type != user_defined});
    }
  }
  tables->merge_list.reserve(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    tables->merge_list.push_back(merge_of(vocabulary.merges[rank], rank, origin + ": tokenizer.ggml.merges"));
  }
  tables->finish(origin);
  return Tokenizer(std::move(tables));
}

Json Tokenizer::to_json() const {
  const Tables& tables = *tables_;
  Json added = Json::array();
  for (const AddedToken& token : tables.added) {
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", token.single_word},
                     {"lstrip", token.lstrip},
                     {"rstrip", token.rstrip},
                     {"normalized", token.normalized},
                     {"special", token.special}});
  }
  // Appended, not assigned by key: an ordered object looks through all its keys at every assignment.
  Json vocabulary = Json::object();
  auto& entries = vocabulary.get_ref<Json::object_t&>();
  entries.reserve(tables.tokens.size());
  for (size_t id = 0; id < tables.tokens.size(); ++id) {
    if (tables.in_model[id]) entries.push_back({tables.tokens[id], id});
  }
  Json merges = Json::array();
  const bool spaces = std::any_of(tables.merge_list.begin(), tables.merge_list.end(), [](const auto& merge) {
    return (merge.first + merge.second).find(' ') != std::string::npos;
  });
  for (const auto& [left, right] : tables.merge_list) {
    if (spaces) {
      merges.push_back(Json::array({left, right}));
    } else {
      merges.push_back(left + " " + right);
    }
  }
  Json model;
  model["type"] = "BPE";
  model["dropout"] = nullptr;
  model["unk_token"] = tables.unknown < 0 ? Json() : Json(tables.tokens[static_cast<size_t>(tables.unknown)]);
  model["continuing_subword_prefix"] = nullptr;
  model["end_of_word_suffix"] = nullptr;
  model["fuse_unk"] = tables.fuse_unknown;
  model["byte_fallback"] = false;
  model["ignore_merges"] = tables.ignore_merges;
  model["vocab"] = std::move(vocabulary);
  model["merges"] = std::move(merges);
  Json json;
  json["version"] = "1.0";
  json["truncation"] = nullptr;
  json["padding"] = nullptr;
  json["added_tokens"] = std::move(added);
  json["normalizer"] = tables.settings.normalizer;
  json["pre_tokenizer"] = tables.settings.pre_tokenizer;
  json["post_processor"] = tables.settings.post_processor;
  json["decoder"] = tables.settings.decoder.is_null() ? byte_level_decoder() : tables.settings.decoder;
  json["model"] = std::move(model);
  return json;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool parse_special) const {
  std::vector<int32_t> ids;
  if (is_utf8(text)) {
    tables_->encode_text(text, parse_special, ids);
  } else {
    tables_->encode_text(repaired_utf8(text), parse_special, ids);
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string bytes;
  for (int32_t id : ids) {
    const std::string_view piece = bytes_of(id);
    if (!(skip_special_tokens && is_special(id))) bytes.append(piece);
  }
  return repaired_utf8(bytes);
}

std::string_view Tokenizer::bytes_of(int32_t id) const {
  if (id < 0 || id >= size()) fail("The token id {} is out of range [0, {}).", id, size());
  return tables_->bytes[static_cast<size_t>(id)];
}

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  const auto found = tables_->ids.find(token);
  if (found == tables_->ids.end()) return std::nullopt;
  return found->second;
}

std::string_view Tokenizer::token(int32_t id) const {
  if (id < 0 || id >= size()) fail("The token id {} is out of range [0, {}).", id, size());
  return tables_->tokens[static_cast<size_t>(id)];
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < size() && tables_->special[static_cast<size_t>(id)] != 0;
}

int64_t Tokenizer::size() const { return static_cast<int64_t>(tables_->tokens.size()); }

std::string StreamDecoder::push(int32_t id) {
  const std::string_view piece = tokenizer_.bytes_of(id);
  if (tokenizer_.is_special(id)) return "";
  pending_.append(piece);
  std::string whole;
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Step step = utf8_step(pending_, at);
    if (step.unfinished) break;
    append_utf8(whole, step.valid ? step.code_point : char32_t{0xFFFD});
    at += step.length;
  }
  pending_.erase(0, at);
  return whole;
}

std::string StreamDecoder::finish() { return repaired_utf8(std::exchange(pending_, {})); }

}  // namespace backburn::text
