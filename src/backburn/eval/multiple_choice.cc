#include "backburn/eval/multiple_choice.h"

#include <algorithm>

#include "backburn/base/error.h"
#include "backburn/text/utf8.h"
#include "backburn/train/supervised.h"

namespace backburn::eval {
namespace {

// Errors: a key missing, or not a text with at least one character.
std::string text_of(const Json& json, const std::string& what, const std::string& where) {
  if (!json.is_string() || json.get<std::string>().empty()) {
    fail("{}: {} must be a text that is not empty, found {}", where, what, json.dump());
  }
  return json.get<std::string>();
}

ChoiceQuestion question_of(const Json& json, const std::string& where) {
  for (const char* key : {"question", "choices", "answer"}) {
    if (!json.is_object() || !json.contains(key)) {
      fail("{}: no \"{}\"; expected {{\"question\": …, \"choices\": [ … ], \"answer\": index from 0}}", where, key);
    }
  }
  ChoiceQuestion result;
  result.question = text_of(json["question"], "\"question\"", where);
  if (!json["choices"].is_array() || json["choices"].size() < 2) {
    fail("{}: \"choices\" must be a list of at least two texts", where);
  }
  for (const Json& choice : json["choices"]) result.choices.push_back(text_of(choice, "a choice", where));
  const Json& answer = json["answer"];
  if (!answer.is_number_unsigned() || answer.get<uint64_t>() >= result.choices.size()) {
    fail("{}: \"answer\" must be the index of a choice, 0 to {}, found {}", where, result.choices.size() - 1,
         answer.dump());
  }
  result.answer = answer.get<size_t>();
  return result;
}

// A context and one continuation. They are encoded together, so that what the tokenizer makes of the border counts.
train::Example continued(const model::Model& model, const std::vector<int32_t>& context, const std::string& whole) {
  auto ids = model.tokenizer.with_special_tokens(model.tokenizer.encode(whole, false));
  const auto border = ids.begin() + static_cast<int64_t>(std::min(context.size(), ids.size()));
  return {{ids.begin(), border}, {border, ids.end()}};
}

}  // namespace

std::vector<ChoiceQuestion> parse_choice_questions(std::string_view text, const std::string& origin) {
  std::vector<ChoiceQuestion> questions;
  for (const Json& line : parse_jsonl(text, origin)) {
    questions.push_back(question_of(line, fmt::format("{}: question {}", origin, questions.size() + 1)));
  }
  if (questions.empty()) fail("{}: no questions; the file is empty", origin);
  return questions;
}

std::vector<std::vector<double>> choice_logprobs(const model::Model& model, const model::Network& network,
                                                 std::span<const ChoiceQuestion> questions) {
  std::vector<train::Example> examples;
  for (const auto& question : questions) {
    const std::string asked = "Question: " + question.question + "\nAnswer:";
    const auto context = model.tokenizer.with_special_tokens(model.tokenizer.encode(asked, false));
    for (const std::string& choice : question.choices) {
      examples.push_back(continued(model, context, fmt::format("{} {}", asked, choice)));
    }
  }
  const auto logprobs = train::answer_logprobs(network, examples);
  std::vector<std::vector<double>> by_question;
  auto next = logprobs.begin();
  for (const auto& question : questions) {
    const auto end = next + std::ssize(question.choices);
    by_question.emplace_back(next, end);
    next = end;
  }
  return by_question;
}

MultipleChoice multiple_choice(std::span<const ChoiceQuestion> questions,
                               std::span<const std::vector<double>> logprobs) {
  const auto likeliest_is_right = [](const ChoiceQuestion& question, const std::vector<double>& scores) {
    const auto likeliest = std::max_element(scores.begin(), scores.end()) - scores.begin();
    return static_cast<size_t>(likeliest) == question.answer;
  };
  int64_t right = 0;
  int64_t right_by_length = 0;
  for (size_t i = 0; i < questions.size(); ++i) {
    const auto& question = questions[i];
    auto scores = logprobs[i];
    right += likeliest_is_right(question, scores) ? 1 : 0;
    for (size_t j = 0; j < scores.size(); ++j) {
      scores[j] /= static_cast<double>(text::utf8_length(question.choices[j]));
    }
    right_by_length += likeliest_is_right(question, scores) ? 1 : 0;
  }
  const auto total = std::ssize(questions);
  return {total, wilson(right, total), wilson(right_by_length, total)};
}

Json MultipleChoice::to_json() const {
  return {{"questions", questions},
          {"acc", acc.value},
          {"acc_ci", {acc.low, acc.high}},
          {"acc_norm", acc_norm.value},
          {"acc_norm_ci", {acc_norm.low, acc_norm.high}}};
}

}  // namespace backburn::eval
