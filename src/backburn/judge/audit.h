#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "backburn/base/json.h"
#include "backburn/judge/registry.h"

namespace backburn::judge {

/// A prompt belongs to one half by the hash of its text (all answers to a prompt are in the same half), so
/// that a judge tuned on one half is reported on prompts it was never tuned on.
enum class Half { tune, report };

/// The half of a prompt: the lowest bit of its bytes' FNV-1a hash (64 bits, folded by xor of its 8 bytes); 0
/// is tune.
Half half_of(std::string_view prompt);

/// Agreement of `judge` with human labels. `path` holds JSON lines with "prompt", "response", "label"
/// ("1_full_compliance", "2_full_refusal", "3_partial_refusal") and optionally "model".
///
/// Returned, for the report half at the top level and for the tune half under "tune":
///   rows, prompts, labels{...}         how many
///   accuracy_binary                    among rows labelled full refusal or full compliance: the share for
///   which
///                                      (verdict kind is refusal) equals (label is full refusal)
///   accuracy_binary_low, _high         its Wilson 95% interval
///   accuracy_binary_rows               rows it was counted on
///   kappa3                             Cohen's kappa over compliance / refusal / partial refusal; a verdict
///   of evasive or broken
///                                      counts as compliance, since it doesn't refuse
///   auc                                how often the score of a full compliance is above that of a full refusal
///                                      (ties count half); null without both
///   confusion                          label -> verdict kind -> rows
///   models                             model -> {rows, accuracy_binary}
///
/// Errors: missing or empty file, a line that isn't such a row (file:line and the key), a half without rows.
Json audit(const std::filesystem::path& path, const Judge& judge);

}  // namespace backburn::judge
