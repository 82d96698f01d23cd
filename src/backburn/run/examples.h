#pragma once

#include <string>

#include "backburn/run/run.h"

/// Answers as logs and reports show them: what isn't a refusal is redacted, unless the recipe says otherwise.
namespace backburn::run {

/// One answer to a restricted prompt.
Json shown(const Run& run, const text::Prompt& prompt, const std::string& answer, const judge::Verdict& verdict);

/// A few answers to restricted prompts and half as many to benign ones, evenly picked; the latter need no redaction.
Json examples_of(const Run& run, const eval::EvalInputs& inputs, const eval::Evaluation& evaluation);

}  // namespace backburn::run
