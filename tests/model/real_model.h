#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "backburn/base/json.h"
#include "backburn/model/load.h"
#include "backburn/model/pull.h"

namespace backburn::model {

/// A model of pull.h's table and its golden (tools/make_model_goldens.py).
struct RealModel {
  const char* name;
  const char* golden;
  bool only_full;  ///< too large for every run: only with BACKBURN_FULL set

  Json read_golden() const {
    return read_json_file(std::string(SOURCE_DIR "/tests/model/data/") + golden + "_parity.json");
  }

  /// Why the test cannot run here; "" when it can.
  std::string reason_to_skip() const {
    if (only_full && std::getenv("BACKBURN_FULL") == nullptr) return "takes minutes: set BACKBURN_FULL=1";
    const auto path = cached_path(*find_named_model(name));
    if (!std::filesystem::exists(path)) return path.string() + " is not there: run `backburn pull " + name + "`";
    return "";
  }
};

inline const RealModel smollm2{"smollm2-135m-instruct", "smollm2", false};
inline const RealModel qwen{"qwen2.5-coder-0.5b", "qwen", true};

inline void PrintTo(const RealModel& model, std::ostream* out) { *out << model.name; }

}  // namespace backburn::model
