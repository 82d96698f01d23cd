#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/base/statistics.h"
#include "backburn/model/load.h"

/// Multiple-choice accuracy as EleutherAI's lm-evaluation-harness measures it on tasks of output_type multiple_choice
/// (https://github.com/EleutherAI/lm-evaluation-harness); a golden of its own proves equality.
namespace backburn::eval {

/// A question and its choices, one of which is right.
struct ChoiceQuestion {
  std::string question;
  std::vector<std::string> choices;  ///< at least two
  size_t answer = 0;                 ///< which of them is right
};

/// JSON lines {"question": text, "choices": [text, …], "answer": index from 0}; other keys are passed over. Errors name
/// `origin` and the question by its number: a key missing or of another kind, an empty text, an index outside.
std::vector<ChoiceQuestion> parse_choice_questions(std::string_view text, const std::string& origin);

/// ln π(" " + choice | "Question: …\nAnswer:") in nats, [question][choice], without a chat template, as the harness
/// asks ARC's questions. A choice's tokens are those that the whole text has beyond the context's own number of tokens.
/// A question is computed once for all its choices.
std::vector<std::vector<double>> choice_logprobs(const model::Model& model, const model::Network& network,
                                                 std::span<const ChoiceQuestion> questions);

/// How often the likeliest choice is the right one; shares with Wilson's intervals.
struct MultipleChoice {
  int64_t questions = 0;
  Estimate acc;       ///< by log-probability; among equals the first choice counts
  Estimate acc_norm;  ///< by log-probability divided by the choice's length in characters
  Json to_json() const;
};

/// logprobs: [question][choice], as choice_logprobs gives them.
MultipleChoice multiple_choice(std::span<const ChoiceQuestion> questions,
                               std::span<const std::vector<double>> logprobs);

}  // namespace backburn::eval
