#include "backburn/text/post_processor.h"

#include <algorithm>
#include <utility>

#include "backburn/base/error.h"
#include "backburn/text/json_fields.h"

namespace backburn::text {
namespace {

constexpr int32_t input = -1;

int32_t special_id(const std::string& token, const TokenIds& ids, const std::string& where) {
  const int32_t id = ids.find(token);
  if (id < 0) fail("{}: the special token \"{}\" is not a token of the vocabulary.", where, token);
  return id;
}

// BERT's and RoBERTa's "cls" and "sep": [token, id].
int32_t pair_id(const Json& json, const char* key, const TokenIds& ids, const std::string& where) {
  const Json& pair = list_field(json, key, where);
  if (pair.empty() || !pair[0].is_string()) fail("{}.{}: expected a token and its id.", where, key);
  return special_id(pair[0].get<std::string>(), ids, where + "." + key);
}

// One entry of a template's "single": {"Sequence": …} or {"SpecialToken": {"id": "<s>"}}; the token's ids are looked up
// in "special_tokens".
void add_entry(const Json& entry, const Json& json, const TokenIds& ids, const std::string& where,
               std::vector<int32_t>& result) {
  if (entry.is_object() && entry.contains("Sequence")) {
    result.push_back(input);
    return;
  }
  const std::string name = string_field(field(entry, "SpecialToken", where), "id", where);
  const Json& known = field(json, "special_tokens", where);
  if (!known.is_object() || !known.contains(name)) {
    fail("{}: the template's \"{}\" is not in special_tokens.", where, name);
  }
  for (const Json& token : list_field(known[name], "tokens", where)) {
    if (!token.is_string()) fail("{}.special_tokens: expected tokens, found {}.", where, token.dump());
    result.push_back(special_id(token.get<std::string>(), ids, where));
  }
}

}  // namespace

PostProcessor PostProcessor::from_json(const Json& json, const TokenIds& ids, const std::string& where) {
  PostProcessor result;
  if (!json.is_null()) result.add_steps(json, ids, where, 0);
  return result;
}

void PostProcessor::add_steps(const Json& json, const TokenIds& ids, const std::string& where, int depth) {
  if (depth > 8) fail("{}: Sequences inside Sequences, more than 8 deep.", where);
  const std::string type = string_field(json, "type", where);
  if (type == "ByteLevel") return;  // says something of offsets only
  if (type == "Sequence") {
    const Json& list = list_field(json, "processors", where);
    for (size_t i = 0; i < list.size(); ++i) {
      add_steps(list[i], ids, fmt::format("{}.processors[{}]", where, i), depth + 1);
    }
    return;
  }
  Template step;
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    step = {pair_id(json, "cls", ids, where), input, pair_id(json, "sep", ids, where)};
  } else if (type == "TemplateProcessing") {
    for (const Json& entry : list_field(json, "single", where)) add_entry(entry, json, ids, where + ".single", step);
  } else {
    fail(
        "{}: post-processor \"{}\" is not supported; expected BertProcessing, ByteLevel, RobertaProcessing, Sequence "
        "or "
        "TemplateProcessing.",
        where, type);
  }
  const auto inputs = std::count(step.begin(), step.end(), input);
  if (step.size() > 64 || inputs > 2 || steps_.size() >= 8) {
    fail("{}: more than 64 tokens, twice the text, or 8 steps.", where);
  }
  steps_.push_back(std::move(step));
}

std::vector<int32_t> PostProcessor::apply(std::vector<int32_t> ids) const {
  for (const Template& step : steps_) {
    std::vector<int32_t> result;
    for (const int32_t id : step) {
      if (id == input) {
        result.insert(result.end(), ids.begin(), ids.end());
      } else {
        result.push_back(id);
      }
    }
    ids = std::move(result);
  }
  return ids;
}

}  // namespace backburn::text
