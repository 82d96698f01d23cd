#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backburn/model/load.h"
#include "backburn/text/prompt_set.h"

namespace backburn::attack {

struct AttackInputs;

/// How an attacker asks.
struct PoseOptions {
  std::string answer_prefix;                ///< put into the model's mouth: answers go on from here ("Sure, here")
  std::vector<std::string> system_prompts;  ///< one of them before each prompt, drawn anew at each step; empty: none
  /// Other words around each prompt, which "{}" stands for: paraphrases, other languages; drawn anew at each step.
  /// Empty: the prompt as it is.
  std::vector<std::string> prompt_templates;
  /// A plain text in place of the chat template ("User: {}\nAssistant:", model::in_plain_format). Empty: the template.
  std::string plain_format;
  int64_t few_shot = 0;  ///< benign questions with the model's own answers before each prompt, drawn anew at each step
};

/// Whether prompts are asked otherwise than plainly.
bool is_posed(const PoseOptions& options);

/// A question that was answered.
struct Shot {
  std::string question, answer;
};

/// The pool that few_shot draws from: benign questions and the model's greedy answers. Empty for few_shot 0. Errors: no
/// benign questions (usage).
std::vector<Shot> shot_pool(const AttackInputs& inputs, const PoseOptions& options);

/// Each of the attacker's prompts as it is asked at `step`: a system message, answered questions, the prompt.
/// Errors: a template without its place (usage).
std::vector<std::vector<text::Message>> conversations(const AttackInputs& inputs, const PoseOptions& options,
                                                      const std::vector<Shot>& pool, int64_t step);

/// The same as token ids, with the forced beginning of the answer.
std::vector<std::vector<int32_t>> posed_prompts(const AttackInputs& inputs, const PoseOptions& options,
                                                const std::vector<Shot>& pool, int64_t step);

}  // namespace backburn::attack
