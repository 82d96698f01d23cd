#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// Prompts with harmful answers to learn from: the file's, or the model's own samples under a forced beginning that the
/// judge scores as harmful. They live in memory alone. Same seed, same answers, so that a run goes on from a checkpoint
/// as before. Errors: a file without such lines (file:line), no harmful sample.
std::vector<train::Example> harmful_answers(const DefenseInputs& inputs, const HarmfulAnswerOptions& options);

}  // namespace backburn::defense
