#pragma once

#include <string>

#include "backburn/base/error.h"
#include "backburn/base/json.h"

namespace backburn::text {

/// Reading a stranger's JSON: each fails with `where` and the key unless the value is there and of the right
/// type.

inline const Json& field(const Json& json, const char* key, const std::string& where) {
  if (!json.is_object()) fail("{}: expected an object, found {}.", where, json.type_name());
  const auto found = json.find(key);
  if (found == json.end()) fail("{}: \"{}\" is missing.", where, key);
  return *found;
}

inline std::string string_field(const Json& json, const char* key, const std::string& where) {
  const Json& value = field(json, key, where);
  if (!value.is_string()) fail("{}.{}: expected a string, found {}.", where, key, value.type_name());
  return value.get<std::string>();
}

inline const Json& list_field(const Json& json, const char* key, const std::string& where) {
  const Json& value = field(json, key, where);
  if (!value.is_array()) fail("{}.{}: expected a list, found {}.", where, key, value.type_name());
  return value;
}

/// `fallback` when the key is missing or null.
inline bool bool_field(const Json& json, const char* key, bool fallback, const std::string& where) {
  if (!json.is_object()) fail("{}: expected an object, found {}.", where, json.type_name());
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return fallback;
  if (!found->is_boolean()) fail("{}.{}: expected true or false, found {}.", where, key, found->type_name());
  return found->get<bool>();
}

/// A whole number ≥ 0; `fallback` when the key is missing or null.
inline size_t count_field(const Json& json, const char* key, size_t fallback, const std::string& where) {
  if (!json.is_object()) fail("{}: expected an object, found {}.", where, json.type_name());
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return fallback;
  if (!found->is_number_integer() || (!found->is_number_unsigned() && found->get<int64_t>() < 0)) {
    fail("{}.{}: expected a whole number, found {}.", where, key, found->dump());
  }
  return found->get<size_t>();
}

/// What a step of a tokenizer.json looks for: "pattern" is {"String": …} or {"Regex": …}.
struct Pattern {
  std::string source;  ///< not empty
  bool literal = false;
};
inline Pattern pattern_field(const Json& json, const std::string& where) {
  const Json& pattern = field(json, "pattern", where);
  const std::string place = where + ".pattern";
  const bool literal = pattern.is_object() && pattern.contains("String");
  Pattern result{string_field(pattern, literal ? "String" : "Regex", place), literal};
  if (result.source.empty()) fail("{}: the pattern is empty.", place);
  return result;
}

}  // namespace backburn::text
