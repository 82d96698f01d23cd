#pragma once

#include <string>
#include <string_view>

#include "backburn/judge/rubric.h"

namespace backburn::judge {

/// What logs and reports show of an answer when completions aren't asked for. A refusal is shown whole. Of
/// anything else: its length, its kind and at most its first three words, "(compliance, 57 words) This phone
/// case [redacted: 54 words]".
std::string redact(std::string_view answer, const Verdict& verdict);

}  // namespace backburn::judge
