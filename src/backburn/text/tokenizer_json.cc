#include "backburn/text/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>

#include "backburn/base/error.h"
#include "backburn/text/json_fields.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

using Kind = ModelParts::Kind;

constexpr std::pair<const char*, Kind> kinds[] = {
    {"BPE", Kind::bpe}, {"Unigram", Kind::unigram}, {"WordPiece", Kind::word_piece}, {"WordLevel", Kind::word_level}};

Kind kind_field(const Json& model, const std::string& where) {
  if (!model.contains("type")) return Kind::bpe;  // old files
  const std::string type = string_field(model, "type", where);
  for (const auto& [name, kind] : kinds) {
    if (type == name) return kind;
  }
  fail("{}: type \"{}\" is not supported; expected BPE, Unigram, WordPiece or WordLevel.", where, type);
}

// `value` as an id below `limit`.
int32_t id_of(const Json& value, size_t limit, const std::string& where) {
  if (!value.is_number_integer()) fail("{}: expected an id, a whole number, found {}.", where, value.type_name());
  const bool in_range = value.is_number_unsigned()
                            ? value.get<uint64_t>() < limit
                            : value.get<int64_t>() >= 0 && static_cast<uint64_t>(value.get<int64_t>()) < limit;
  if (!in_range) fail("{}: the id {} is out of range [0, {}).", where, value.dump(), limit);
  return value.get<int32_t>();
}

std::string optional_string(const Json& json, const char* key, const char* fallback, const std::string& where) {
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? fallback : string_field(json, key, where);
}

void must_not_drop_out(const Json& model, const std::string& where) {
  const auto found = model.find("dropout");
  if (found == model.end() || found->is_null() || (found->is_number() && found->get<double>() == 0.0)) return;
  fail("{}.dropout: {} is not supported: ids would be random.", where, found->dump());
}

void take_merges(const Json& model, const std::string& where, ModelParts& parts) {
  const Json& merges = list_field(model, "merges", where);
  parts.merges.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Json& merge = merges[rank];
    if (merge.is_string()) {
      parts.merges.push_back(split_merge(merge.get_ref<const std::string&>(), rank, where + ".merges"));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      parts.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      fail("{}.merges: merge {} is {}; expected \"left right\" or [\"left\", \"right\"].", where, rank,
           merge.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 80));
    }
  }
}

// Unigram's vocabulary: [token, score], an id being a place.
void take_scored_tokens(const Json& model, const std::string& where, TokenizerParts& parts) {
  const Json& list = list_field(model, "vocab", where);
  for (size_t id = 0; id < list.size(); ++id) {
    const Json& entry = list[id];
    const std::string place = fmt::format("{}.vocab[{}]", where, id);
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      fail("{}: expected a token and its score.", place);
    }
    if (entry[0].get_ref<const std::string&>().empty()) fail("{}: the token is empty.", place);
    parts.put(entry[0].get<std::string>(), static_cast<int32_t>(id), true, place);
    parts.model.scores.push_back(entry[1].get<double>());
  }
  if (model.contains("unk_id") && !model["unk_id"].is_null()) {
    parts.model.unknown = id_of(model["unk_id"], list.size(), where + ".unk_id");
  }
}

AddedToken added_token(const Json& entry, size_t limit, const std::string& where) {
  AddedToken token;
  token.content = string_field(entry, "content", where);
  if (token.content.empty()) fail("{}: the content is empty.", where);
  if (!is_utf8(token.content)) fail("{}: the content is not UTF-8.", where);
  token.id = id_of(field(entry, "id", where), limit, where + ".id");
  token.special = bool_field(entry, "special", false, where);
  token.normalized = bool_field(entry, "normalized", !token.special, where);
  token.lstrip = bool_field(entry, "lstrip", false, where);
  token.rstrip = bool_field(entry, "rstrip", false, where);
  token.single_word = bool_field(entry, "single_word", false, where);
  return token;
}

// All ids by token; each token once.
std::unordered_map<std::string, int32_t> ids_by_token(const TokenizerParts& parts, const std::string& where) {
  std::unordered_map<std::string, int32_t> ids;
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.tokens[id].empty()) continue;
    if (!ids.emplace(parts.tokens[id], static_cast<int32_t>(id)).second) {
      fail("{}.vocab: \"{}\" is given twice.", where, parts.tokens[id]);
    }
  }
  return ids;
}

void take_added(const Json& list, size_t limit, std::unordered_map<std::string, int32_t>& ids,
                const std::string& origin, TokenizerParts& parts) {
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = fmt::format("{}: added_tokens[{}]", origin, i);
    AddedToken token = added_token(list[i], limit, where);
    const auto [known, is_new] = ids.emplace(token.content, token.id);
    if (!is_new && known->second != token.id) {
      fail("{}: \"{}\" has the id {} here and {} before.", where, token.content, token.id, known->second);
    }
    parts.put(token.content, token.id, false, where);
    const bool again = std::any_of(parts.added.begin(), parts.added.end(),
                                   [&](const AddedToken& other) { return other.id == token.id; });
    if (again) fail("{}: \"{}\" is given twice.", where, token.content);
    parts.added.push_back(std::move(token));
  }
}

}  // namespace

std::pair<std::string, std::string> split_merge(std::string_view line, size_t rank, const std::string& where) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
      line.find(' ', space + 1) != std::string_view::npos) {
    fail("{}: merge {} is \"{}\"; expected two tokens with one space between.", where, rank,
         repaired_utf8(line.substr(0, 80)));
  }
  return {std::string(line.substr(0, space)), std::string(line.substr(space + 1))};
}

TokenizerParts parts_of_json(std::string_view text, const std::string& origin) {
  // The sorted kind of JSON, whose objects are made in O(n log n): an ordered Json of a large vocabulary takes
  // quadratic time (151,936 tokens: most of a minute).
  nlohmann::json sorted;
  try {
    const auto check_depth = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      if (depth > 64) fail("{}: JSON nested deeper than 64 levels.", origin);
      return true;
    };
    sorted = nlohmann::json::parse(text, check_depth);
  } catch (const nlohmann::json::exception&) {
    parse_json(text, origin);  // throws, with line and column
    throw;
  }
  if (!sorted.is_object()) fail("{}: not a tokenizer.json: expected an object, found {}.", origin, sorted.type_name());
  nlohmann::json vocabulary = nlohmann::json::object();
  if (sorted.contains("model") && sorted["model"].is_object() && sorted["model"].contains("vocab") &&
      sorted["model"]["vocab"].is_object()) {
    std::swap(vocabulary, sorted["model"]["vocab"]);
  }
  const Json json(sorted);

  const std::string where = origin + ": model";
  const Json& model = field(json, "model", origin);
  TokenizerParts parts;
  parts.model.kind = kind_field(model, where);
  const auto optional = [&](const char* key) { return json.contains(key) ? json[key] : Json(); };
  parts.normalizer = optional("normalizer");
  parts.pre_tokenizer = optional("pre_tokenizer");
  parts.post_processor = optional("post_processor");
  parts.decoder = optional("decoder");
  const Json added = optional("added_tokens").is_null() ? Json::array() : list_field(json, "added_tokens", origin);

  // Files have few holes between ids; a wild id must not cost gigabytes.
  const size_t limit = 4 * (vocabulary.size() + added.size() + field(model, "vocab", where).size()) + 1024;
  if (parts.model.kind == Kind::unigram) {
    take_scored_tokens(model, where, parts);
  } else {
    if (!model["vocab"].is_object()) fail("{}.vocab: expected an object, found {}.", where, model["vocab"].type_name());
    for (const auto& [token, id] : vocabulary.items()) {
      if (token.empty()) fail("{}.vocab: a token is empty.", where);
      parts.put(token, id_of(Json(id), limit, where + ".vocab"), true, where + ".vocab");
    }
  }
  auto ids = ids_by_token(parts, where);
  take_added(added, limit, ids, origin, parts);
  if (parts.tokens.empty()) fail("{}.vocab: no tokens.", where);

  if (parts.model.kind == Kind::bpe) {
    must_not_drop_out(model, where);
    take_merges(model, where, parts.model);
    parts.model.ignore_merges = bool_field(model, "ignore_merges", false, where);
    parts.model.fuse_unknown = bool_field(model, "fuse_unk", false, where);
    parts.model.subword_prefix = optional_string(model, "continuing_subword_prefix", "", where);
    parts.model.word_suffix = optional_string(model, "end_of_word_suffix", "", where);
  } else if (parts.model.kind == Kind::word_piece) {
    parts.model.subword_prefix = optional_string(model, "continuing_subword_prefix", "##", where);
    parts.model.max_characters = count_field(model, "max_input_chars_per_word", 100, where);
  }
  parts.model.byte_fallback = bool_field(model, "byte_fallback", false, where);
  const auto unknown = model.find("unk_token");
  if (unknown != model.end() && !unknown->is_null()) {
    const std::string token = string_field(model, "unk_token", where);
    const auto known = ids.find(token);
    if (known == ids.end()) fail("{}.unk_token: \"{}\" is not a token of the vocabulary.", where, token);
    parts.model.unknown = known->second;
  }
  return parts;
}

namespace {

Json json_of_merges(const ModelParts& model) {
  const bool spaces = std::any_of(model.merges.begin(), model.merges.end(), [](const auto& merge) {
    return (merge.first + merge.second).find(' ') != std::string::npos;
  });
  Json merges = Json::array();
  for (const auto& [left, right] : model.merges) {
    if (spaces) {
      merges.push_back(Json::array({left, right}));
    } else {
      merges.push_back(fmt::format("{} {}", left, right));
    }
  }
  return merges;
}

Json json_of_vocabulary(const TokenizerParts& parts) {
  const bool in_order = parts.model.kind == Kind::unigram;
  Json vocabulary = in_order ? Json::array() : Json::object();
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    if (in_order && id < parts.model.scores.size()) {
      vocabulary.push_back(Json::array({parts.tokens[id], parts.model.scores[id]}));
    } else if (!in_order && (parts.in_model[id] || (parts.sentencepiece && !parts.tokens[id].empty()))) {
      // Appended, not assigned by key: an ordered object looks through all its keys at every assignment.
      vocabulary.get_ref<Json::object_t&>().push_back({parts.tokens[id], id});
    }
  }
  return vocabulary;
}

Json json_of_model(const TokenizerParts& parts) {
  const ModelParts& model = parts.model;
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  const Json unknown = model.unknown < 0 ? Json() : Json(parts.tokens[static_cast<size_t>(model.unknown)]);
  Json json;
  for (const auto& [name, kind] : kinds) {
    if (kind == model.kind) json["type"] = name;
  }
  switch (model.kind) {
    case Kind::bpe:
      json["dropout"] = nullptr;
      json["unk_token"] = unknown;
      json["continuing_subword_prefix"] = text_or_null(model.subword_prefix);
      json["end_of_word_suffix"] = text_or_null(model.word_suffix);
      json["fuse_unk"] = model.fuse_unknown;
      json["byte_fallback"] = model.byte_fallback;
      json["ignore_merges"] = model.ignore_merges;
      break;
    case Kind::unigram:
      json["unk_id"] = model.unknown < 0 ? Json() : Json(model.unknown);
      json["byte_fallback"] = model.byte_fallback;
      break;
    case Kind::word_piece:
      json["unk_token"] = unknown;
      json["continuing_subword_prefix"] = model.subword_prefix;
      json["max_input_chars_per_word"] = model.max_characters;
      break;
    case Kind::word_level: json["unk_token"] = unknown; break;
  }
  json["vocab"] = json_of_vocabulary(parts);
  if (model.kind == Kind::bpe) json["merges"] = json_of_merges(model);
  return json;
}

}  // namespace

Json json_of(const TokenizerParts& parts) {
  Json added = Json::array();
  const auto add = [&](const AddedToken& token) {
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", token.single_word},
                     {"lstrip", token.lstrip},
                     {"rstrip", token.rstrip},
                     {"normalized", token.normalized},
                     {"special", token.special}});
  };
  for (const AddedToken& token : parts.added) add(token);
  for (size_t id = 0; id < parts.model.always.size(); ++id) {
    if (parts.model.always[id]) add({.id = static_cast<int32_t>(id), .content = parts.tokens[id]});
  }
  Json json;
  json["version"] = "1.0";
  json["truncation"] = nullptr;
  json["padding"] = nullptr;
  json["added_tokens"] = std::move(added);
  json["normalizer"] = parts.normalizer;
  json["pre_tokenizer"] = parts.pre_tokenizer;
  json["post_processor"] = parts.post_processor;
  json["decoder"] = parts.decoder;
  json["model"] = json_of_model(parts);
  return json;
}

}  // namespace backburn::text
