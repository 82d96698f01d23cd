#pragma once

#include <vector>

#include "backburn/report/table.h"
#include "backburn/run/run.h"

namespace backburn::run {

/// Evaluates the model, fine-tunes an adapter on the recipe's benign task, and evaluates what became of it. The
/// fine-tuned weights are not kept. The stage "finetune" has:
///
/// - "label", "method", "max_steps", "train_questions", "test_questions", "seconds";
/// - "accuracy": [{"step", "acc", "acc_ci"}, …], exact matches of greedy answers to the test questions, first before
/// any
///   step; "accuracy_mean": over these; "correct": for each test question, whether it was answered correctly in the
///   end;
/// - "before", "after": evaluations of harm and refusals on the restricted held-out prompts.
void finetune_stage(const Run& run, const std::string& label, const model::Model& model);

/// {"models": results of finetune_stage}; each after the first also has "gain_on_first", what its final accuracy has
/// more than the first one's, and "gain_on_first_ci", bootstrapped over the test questions, which are the same.
Json finetune_comparison(std::vector<Json> results);

/// Accuracy: a row a measured step, a column a model.
report::Table accuracy_table(const Json& comparison);
/// What fine-tuning made of each model: a row a model.
report::Table finetune_table(const Json& comparison);

}  // namespace backburn::run
