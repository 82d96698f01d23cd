#pragma once

#include <string>

#include "backburn/base/error.h"
#include "backburn/base/json.h"

namespace backburn::model {

/// The value of a key of config.json. Errors: it is missing, null, or of another type.
template <typename T>
T require(const Json& json, const char* key, const std::string& origin) {
  auto found = json.find(key);
  if (found == json.end() || found->is_null()) fail("{}: key \"{}\" is missing", origin, key);
  try {
    return found->get<T>();
  } catch (const Json::exception&) {
    fail("{}: key \"{}\" has the wrong type: {}", origin, key, found->dump().substr(0, 60));
  }
}

/// The same, with a value for a key that is missing or null.
template <typename T>
T optional(const Json& json, const char* key, T fallback, const std::string& origin) {
  auto found = json.find(key);
  return found == json.end() || found->is_null() ? fallback : require<T>(json, key, origin);
}

}  // namespace backburn::model
