#pragma once

#include <functional>
#include <string>

#include "backburn/base/error.h"

namespace backburn {

/// What the Error says that `action` throws; "no error" where it throws none.
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace backburn
