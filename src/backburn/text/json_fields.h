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

}  // namespace backburn::text
